"""Known bugs of expert parallelism, each a mixin of a few lines put in front of a conforming class."""
