"""The processes that run candidates and references: one for JAX, a fleet of ranks for torch."""
