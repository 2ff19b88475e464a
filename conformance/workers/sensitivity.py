"""What other values of a batch move on one device: what they do not, shows nothing of a candidate.

`seen` is the reference: a batch -> what it observes, from the parameters of the contract.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from conformance.contract.contract import Arrays
from conformance.workers.altered import altered, changed

_LOG = logging.getLogger("shardproof.workers")

Seen = Callable[[Arrays], Arrays]


def unmoved(seen: Seen, batch: Arrays, oracle: Arrays) -> tuple[str, ...]:
    """The loss, if all keys of the batch were given other values and none of them moved it by a bit."""
    stayed = set()
    try:
        for key, other in altered(batch) if "loss" in oracle else ():
            if not np.array_equal(seen(other)["loss"], oracle["loss"]):
                return ()
            stayed.add(key)
    except Exception:  # the reference refuses such values, and nothing is known
        _LOG.debug("The reference refuses a batch with other values.", exc_info=True)
    return ("loss",) if stayed and stayed == set(batch) else ()


def idle(seen: Seen, batch: Arrays, oracle: Arrays) -> tuple[str, ...]:
    """Keys that move nothing by the other values that candidates are given: a mask, say, of what is masked anyway."""
    return tuple(key for key in batch if _is_idle(key, seen, batch, oracle))


def _is_idle(key: str, seen: Seen, batch: Arrays, oracle: Arrays) -> bool:
    try:
        after = seen(batch | {key: changed(batch[key])})
    except Exception:  # the reference refuses such values, and nothing is known
        _LOG.debug("The reference refuses other values of '%s'.", key, exc_info=True)
        return False
    lost = any(name.startswith("gradients/") and name not in after for name in oracle)
    return not lost and all(name in oracle and np.array_equal(value, oracle[name]) for name, value in after.items())
