"""Orders: what `shardproof record` tells the captures of the runs that it starts, through the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OFF = "off"
FOLDER, MEMBER, DTYPE, ROUNDING = (
    "SHARDPROOF_CAPTURE",  # where the capture goes, whatever the script says; "off": nowhere
    "SHARDPROOF_MEMBER",  # which run this is; parameters and real inputs of member 0 are not moved
    "SHARDPROOF_DTYPE",  # to which parameters, buffers and real inputs are converted
    "SHARDPROOF_ROUNDING",  # the dtype by whose rounding they are moved, where that is not their own
)


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a run is asked to be; without a recorder around it, the script as it stands."""

    folder: Path | None = None
    off: bool = False
    member: int = 0
    dtype: str | None = None
    rounding: str | None = None

    @classmethod
    def given(cls) -> Orders:
        """Those of this process."""
        where = os.environ.get(FOLDER, "")
        return cls(
            folder=Path(where) if where and where != OFF else None,
            off=where == OFF,
            member=int(os.environ.get(MEMBER, "0")),
            dtype=os.environ.get(DTYPE),
            rounding=os.environ.get(ROUNDING),
        )

    def environment(self) -> Mapping[str, str]:
        """The inverse of `given`."""
        named = {FOLDER: self.folder, DTYPE: self.dtype, ROUNDING: self.rounding, MEMBER: self.member}
        return {name: str(value) for name, value in named.items() if value is not None}
