"""Agreement: the same cases on two kinds of devices, verdict by verdict."""
