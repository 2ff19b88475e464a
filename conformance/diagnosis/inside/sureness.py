"""How sure it is what the values of a step show."""

FOUND = 0.9  # how sure what values show of an operation is
ORDER = 0.75  # a right program may keep its elements in an order of its own, and be wrong after that
LINE = 0.86  # how sure a line is: that can be seen, but a right value may have no counterpart on one device
