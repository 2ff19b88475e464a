"""Context parallelism by torch's own means: `torch.distributed.tensor.experimental.context_parallel`, untouched."""
