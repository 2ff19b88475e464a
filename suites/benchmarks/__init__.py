"""The asv package: throughput, memory, accuracy and overhead over time. Lower is better in every series.

Every figure belongs to a standing case, and counts only beside a passing verdict of that very case. All series here are
of emulated devices; figures of real devices get series of their own.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
