"""What each policy of memory saves, and what it costs: `python -m suites.memory.measure FOLDER`."""
