"""Right sharded programs drawn at random: does `conformance.check` pass each of them, and catch a tiny planted error?

python -m conformance.programs results/calibration --count 2000
"""
