"""Known bugs of sequence and context parallelism, each a short mixin that comes before a conforming class in the bases.

As in `suites.tensor.faults`, a mixin calls only methods that the conforming classes of both frameworks have;
mixins written with one framework's API are in `in_jax` and `in_torch`.
"""
