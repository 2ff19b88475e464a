"""Hybrid parallelism in torch: the parts of the other suites, put in front of each other."""
