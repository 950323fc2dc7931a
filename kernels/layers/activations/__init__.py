"""Elementwise layers as kernels, one short file each; `elementwise` says what such a file holds."""
