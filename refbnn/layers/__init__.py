"""Layers, one file each: forward, backward and moments side by side."""

from refbnn.layers.avg_pool2d import AvgPool2d
from refbnn.layers.batch_norm import BatchNorm2d
from refbnn.layers.conv2d import Conv2d
from refbnn.layers.dense import Dense
from refbnn.layers.flatten import Flatten
from refbnn.layers.layer import Layer
from refbnn.layers.relu import ReLU
from refbnn.layers.residual import Residual

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Flatten",
    "Layer",
    "ReLU",
    "Residual",
]
