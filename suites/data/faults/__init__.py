"""Known bugs of data parallelism and sharded state, each a mixin of a few lines put in front of a conforming class.

They are written as those of the tensor suite are, and where the mechanism is the same the table names the mixin there.
"""
