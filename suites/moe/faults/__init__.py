"""Known bugs of expert parallelism, each a short mixin that comes before a conforming class in the bases."""
