"""Planner: which layout trains a model of a size on so many devices, why, and what the compiler says of it."""
