"""What the JAX implementations of all suites share of a training step."""
