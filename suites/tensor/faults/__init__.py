"""Known bugs of tensor parallelism, each a mixin of a few lines put in front of a conforming class.

A mixin calls nothing but methods that the conforming classes of both frameworks have, so that one text plants the bug
in both; what needs a framework's own words stands in `in_jax` and `in_torch`. The table says where each must be seen.
"""

from __future__ import annotations

from typing import Any

Conforming: Any = object  # whatever class a mixin is put in front of
