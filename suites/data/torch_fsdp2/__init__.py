"""Torch's own FSDP2, `fully_shard`, in the step that all other ways share."""
