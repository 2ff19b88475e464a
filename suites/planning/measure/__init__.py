"""Predicted against compiled bytes of many plans, in one process: `python -m suites.planning.measure FOLDER`."""
