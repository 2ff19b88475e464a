"""Collectives in torch: those of torch.distributed, and algorithms made of point-to-point messages."""
