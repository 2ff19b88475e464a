"""Known bugs of policies of memory, each a short mixin that comes before a conforming class in the bases."""
