"""Known bugs of sequence and context parallelism, each a mixin of a few lines put in front of a conforming class.

As in `suites.tensor.faults`, a mixin calls nothing but methods that the conforming classes of both frameworks have;
what needs a framework's own words stands in `in_jax` and `in_torch`.
"""
