"""Pipelines in one JAX program: stages on their ranks, messages by `ppermute`, any schedule as a table."""
