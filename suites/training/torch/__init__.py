"""What the torch implementations of all suites share of a training step."""
