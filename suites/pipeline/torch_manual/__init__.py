"""Pipelines in torch: every rank carries out its own lane of the schedule, with blocking messages."""
