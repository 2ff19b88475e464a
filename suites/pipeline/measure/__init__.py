"""Measurements of schedules: live activations, bytes, bubbles, and the gain from balanced stages.

`python -m suites.pipeline.measure results/schedules` writes a page, its figures as JSON, and three pictures.
"""
