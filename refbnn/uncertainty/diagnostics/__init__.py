"""Diagnostics: where the moments or the Gaussian assumption of propagation are poor."""
