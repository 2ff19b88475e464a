"""Pipelines in torch: every rank carries out its own lane of the timetable, with blocking messages."""
