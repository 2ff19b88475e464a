"""Torch's own means put together: `fully_shard` over fsdp (and data), `parallelize_module` over tensor, AdamW."""
