"""The asv package: throughput, bytes, accuracy, power and overhead over time. Lower is better in every series.

Every figure of a case counts only beside a passing verdict of that very case. Emulated and real devices never share a
series: all are of emulated devices but those of `real`. Modules of this package import each other relatively, so that
asv lays these benchmarks over the package of any commit.
"""
