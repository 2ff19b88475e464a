"""Hybrid parallelism in torch: mixins of the other suites, combined by multiple inheritance."""
