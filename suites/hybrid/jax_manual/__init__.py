"""Hybrid parallelism in JAX: mixins of the other suites, combined by multiple inheritance."""
