"""Known bugs that need more than one kind of axis: short mixins that come before a conforming class in the bases."""
