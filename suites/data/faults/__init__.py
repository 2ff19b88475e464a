"""Known bugs of data parallelism and sharded state: short mixins that come before a conforming class in the bases.

They are written as those of the tensor suite are, and where the mechanism is the same the table names the mixin there.
"""
