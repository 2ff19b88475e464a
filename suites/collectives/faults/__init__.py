"""Known bugs of collectives, each a short mixin that comes before a conforming class in the bases.

A mixin calls only methods that the conforming classes of both frameworks have, so that one class plants the bug in
both; mixins written with one framework's API are in `in_jax` and `in_torch`. The table says which check must see each.
"""

from __future__ import annotations

from typing import Any

Conforming: Any = object  # the conforming class that a mixin comes before in the bases
