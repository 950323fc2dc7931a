"""Layers, one file each: forward, backward and moments side by side."""

from refbnn.layers.conv2d import Conv2d
from refbnn.layers.dense import Dense
from refbnn.layers.layer import Layer
from refbnn.layers.relu import ReLU

__all__ = ["Conv2d", "Dense", "Layer", "ReLU"]
