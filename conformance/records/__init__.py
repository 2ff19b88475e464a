"""What is kept of a run: results, their records on disk, the environment, and how a case is run again."""
