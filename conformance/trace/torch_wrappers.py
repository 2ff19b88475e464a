"""Names of parameters and modules in torch, without what is wrapped around them."""

from __future__ import annotations

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.")


def plain(name: str) -> str:
    """Without what torch.compile, checkpointing, FSDP and DDP put around modules."""
    for wrapper in WRAPPERS[:-1]:
        name = name.replace(wrapper, "")
    return name.removeprefix(WRAPPERS[-1])
