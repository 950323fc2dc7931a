"""Layers, one file each: forward, backward and moments side by side."""

from refbnn.layers.dense import Dense
from refbnn.layers.layer import Layer
from refbnn.layers.relu import ReLU

__all__ = ["Dense", "Layer", "ReLU"]
