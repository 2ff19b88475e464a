"""`conformance.check`: somebody's own functions, judged in their own test."""
