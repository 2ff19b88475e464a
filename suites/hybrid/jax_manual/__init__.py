"""Hybrid parallelism in JAX: the parts of the other suites, put in front of each other."""
