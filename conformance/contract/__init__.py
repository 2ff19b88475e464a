"""What is claimed: a contract, the mesh that it is laid out on, placements, and what an implementation must offer."""
