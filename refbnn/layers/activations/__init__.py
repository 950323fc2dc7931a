"""Activations, one file each. Start with `relu`; `elementwise` holds what they share."""
