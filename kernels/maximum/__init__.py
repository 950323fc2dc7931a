"""The maximum of a window of independent Gaussians."""
