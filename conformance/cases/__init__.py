"""What is judged: cases, the suites that plan them, and the way from a name to what it means."""
