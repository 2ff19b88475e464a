"""Pipelines of `torch.distributed.pipelining`, untouched: torch cuts microbatches, sends messages, orders the work."""
