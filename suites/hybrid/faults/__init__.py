"""Known bugs that need more than one kind of axis, each a mixin of a few lines put in front of a conforming class."""
