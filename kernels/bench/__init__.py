"""Benchmarks of kernels: latency, instructions, memory, limits of the machine, other tools."""
