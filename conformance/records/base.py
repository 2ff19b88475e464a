"""What every record has in common: it is frozen, keeps numbers that JSON cannot write, and can always be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from conformance.cases.case import DEVICES
from conformance.records.results import VERDICTS

SCHEMA_VERSION = 1
Number = Annotated[float, WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity", "NaN"]}]})]


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"'{word}' is none of {', '.join(words)}")
        return word

    return check


Verdict = Annotated[str, Field(json_schema_extra={"enum": list(VERDICTS)}), AfterValidator(_one_of(VERDICTS))]
Devices = Annotated[str, Field(json_schema_extra={"enum": list(DEVICES)}), AfterValidator(_one_of(DEVICES))]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, given: Any) -> Any:
        return writable(given)


def writable(value: Any) -> Any:
    r"""The same with every lone surrogate spelled out (`\udcff`): a file name that is not UTF-8 brings them in."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [writable(item) for item in value]
    if isinstance(value, tuple):
        return tuple(writable(item) for item in value)
    return value
