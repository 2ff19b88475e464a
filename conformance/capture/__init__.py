"""Somebody's own trainer under its own launcher: capture what its ranks compute, record one device, judge offline.

`conformance.capture` is the function; this room has the same name, and is called like it.
"""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from conformance.capture.capture import capture

        return capture(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
