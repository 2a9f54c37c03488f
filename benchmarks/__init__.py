"""Ours and every peer on the same workloads, in one run: `python -m benchmarks --help`."""
