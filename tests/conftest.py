"""Hypothesis without a deadline: the machines that run these tests are shared, and slow at times."""

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
