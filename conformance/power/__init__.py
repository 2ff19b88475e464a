"""How much the suites catch: planted faults and generated mutations, and what survives."""
