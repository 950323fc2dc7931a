"""The maximum of a window of independent Gaussians; start with `of_window`."""
