"""Layers of images (NCHW), one file each."""
