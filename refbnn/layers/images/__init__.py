"""Layers of images, one file each. Start with `windows`: the sizes that they share."""
