"""What happens to a run when things break: one row per injury, each done to a whole `shardproof run` of real cases.

`python -m tests.reliability results/reliability` makes the published table.
"""
