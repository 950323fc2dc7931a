"""Deployment: a network as C for a board without Python; start with `deployment`."""

from kernels.deploy.deployment import deploy

__all__ = ["deploy"]
