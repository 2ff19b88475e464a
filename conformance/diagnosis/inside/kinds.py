"""Operations by what they do with their operands, under the names that both frameworks have for them."""

from __future__ import annotations

# What takes a part of its operand, the rest of which may be wrong: one that the program states, or that indices choose.
CUTS = ("slice", "split", "split_with_sizes", "chunk", "narrow", "select", "unbind")
CHOICES = ("dynamic_slice", "gather", "index_select", "index", "embedding", "take")
SECTIONS = (*CUTS, "dynamic_slice")  # of a fused value
SORTS = ("sort", "top_k", "topk", "argsort")  # whose second result, the indices, may be all that is used
JOINS = ("concatenate", "cat", "stack", "chunk_cat")
# What puts its operands where indices say: a rank may fill a buffer in an order of its own.
BUFFERS = ("scatter", "scatter-add", "dynamic_update_slice", "index_put", "index_put_", "index_add", "index_copy")
ADDS = ("add", "add_any", "add_")  # terms of a sum, in any order
COMMUTATIVE = (*ADDS, "mul", "maximum", "minimum")
PRODUCTS = ("dot_general", "conv_general_dilated", "mm", "bmm", "addmm", "matmul", "convolution")
BY_ELEMENT = (*ADDS, "sub", "mul", "div")
SCALES = ("mul", "div", "mul_", "div_", "pow")  # that may be by one number
MOVES = ("transpose", "rev", "flip", "roll")  # that leave every element of their operand
# What holds the numbers of its operand, in another shape perhaps.
COPIES = ("stop_gradient", "broadcast_in_dim", "reshape", "copy", "clone", "expand_dims", "squeeze")
# What a rank may take of its own part alone, as a stable softmax does.
EXTREMES = ("reduce_max", "reduce_min", "amax", "amin", "max", "min", "maximum", "minimum")
SELECTIONS = ("select_n", "where", "masked_fill", "masked_fill_")  # they may put zeros where nothing is to be seen
# What makes words bit by bit, as a generator of random numbers does.
BITWISE = (
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "bitwise_left_shift", "bitwise_right_shift", "rshift",
    "lshift", "and", "or", "xor", "not", "shift_left", "shift_right_logical", "shift_right_arithmetic", "threefry2x32",
    "random_bits",
)  # fmt: skip
MESSAGE = "permute"  # between ranks
REDUCTIONS = ("all_reduce", "reduce_scatter")  # over ranks
# What makes no numbers: it takes, moves or puts together those that it is given.
ARRANGED = (*CUTS, *CHOICES, *JOINS, *BUFFERS, *MOVES, *COPIES, MESSAGE, "all_gather", "all_to_all")
