"""Elementwise layers: forward, backward and moments, one file each."""
