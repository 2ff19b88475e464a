"""A recording: what `shardproof record` leaves behind, one oracle and several members of the single-device run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from conformance.capture.records import FORMAT
from conformance.cases.usage import UsageError
from conformance.records.base import Number, Record
from conformance.records.files import write_whole

FILE, ORACLE = "recording.json", "oracle"


class Recording(Record):
    """`recording.json`.

    oracle    the dtype of the oracle: float64 where the script allows it
    why       why it is no wider than that, a sentence; empty for float64
    dtype     in which the members ran: that of the script, unless another was asked for
    members   their folders: one as the script stands, the others moved by one rounding
    """

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    command: list[str]
    oracle: str
    why: str = ""
    dtype: str
    members: list[str]
    seconds: Number = 0.0

    def write(self, folder: Path) -> None:
        write_whole(folder / FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """UsageError, in one sentence, where there is none."""
        if not folder.is_dir():
            raise UsageError(f"There is no recording '{folder}'.")
        try:
            return cls.model_validate_json((folder / FILE).read_bytes())
        except FileNotFoundError:
            raise UsageError(
                f"'{folder}' is no recording: one run says nothing of rounding. Make one of the single-device run with "
                f"`shardproof record --output {folder} -- python train.py ...`."
            ) from None
        except (ValidationError, OSError):
            raise UsageError(f"'{folder / FILE}' cannot be read: record the single-device run again.") from None
