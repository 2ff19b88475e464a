"""Planning: shapes of published models, and what a layout of the scanned program holds and computes."""
