"""Sizes as people write them: every number has its unit, and what could mean two things is refused."""

from __future__ import annotations

import re

from conformance.cases.usage import UsageError

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+]?\d+)?)\s*([A-Za-z]*)")
PARAMETERS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
CLEAR = 10**6  # a whole number from here on counts parameters: nobody has millions of billions


def parameters(text: str) -> int:
    """175B, 6.7B, 350M, 7e9 -> number of parameters. Raises UsageError for '175', which could be either."""
    value, unit = _split(text, "a model size", "175B or 7e9")
    if unit and unit.upper() not in PARAMETERS:
        raise UsageError(f"'{text}' is no model size: the units are K, M, B (billions) and T, as in 175B.")
    number = value * PARAMETERS[unit.upper()] if unit else value
    if not unit and "e" not in text.lower() and number < CLEAR:
        raise UsageError(
            f"'{text}' could be {text} parameters or {text} billions: write {text}B for billions, or a power as in 7e9."
        )
    if number < 1:
        raise UsageError(f"A model of '{text}' has no parameters.")
    return round(number)


def size(text: str) -> int:
    """80GiB, 40GB, 1MiB -> bytes. Raises UsageError for '80' and for '80G'."""
    value, unit = _split(text, "a memory size", "80GiB or 80GB")
    if unit.upper() not in BYTES:
        given = f"the unit '{unit}' is not one" if unit else "it has no unit"
        letter = unit[0].upper() if unit and unit[0].upper() in "KMGT" else "G"
        raise UsageError(
            f"'{text}' is no memory size, since {given}: write {text.rstrip(unit)}{letter}iB for powers of 1024, or "
            f"{text.rstrip(unit)}{letter}B for powers of 1000."
        )
    if value * BYTES[unit.upper()] < 1:
        raise UsageError(f"'{text}' is less than one byte.")
    return int(value * BYTES[unit.upper()])


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is not {what}: write a number and its unit, as in {example}.")
    return float(match[1]), match[2]
