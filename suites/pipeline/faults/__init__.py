"""Faults of pipeline parallelism: conforming pipelines with one known bug planted in each."""
