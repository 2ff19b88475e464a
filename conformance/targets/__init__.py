"""Chips by name, and programs compiled for them; no chip is needed for either."""
