"""Sampled weights, drawn in the kernel where they are used."""
