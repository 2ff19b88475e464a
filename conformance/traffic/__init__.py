"""What a program communicates, read from the program: each collective with its ranks, bytes, trips and phase."""
