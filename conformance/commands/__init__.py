"""One file per command of the command line: what it does once its options are known."""
