"""Fuzzing: cases drawn at random, judged, and what fails made as small as it gets."""
