"""What a schedule costs, measured: live activations, bytes, bubbles, and what balance saves.

`python -m suites.pipeline.measure results/schedules` writes a page, its figures as JSON, and three pictures.
"""
