"""Layers, one file each: forward, backward and moments side by side."""

from refbnn.layers.conv2d import Conv2d
from refbnn.layers.dense import Dense
from refbnn.layers.elu import ELU
from refbnn.layers.gelu import GELU
from refbnn.layers.layer import Layer
from refbnn.layers.leaky_relu import LeakyReLU
from refbnn.layers.max_pool2d import MaxPool2d
from refbnn.layers.relu import ReLU
from refbnn.layers.sigmoid import Sigmoid
from refbnn.layers.tanh import Tanh

__all__ = [
    "ELU",
    "GELU",
    "Conv2d",
    "Dense",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "ReLU",
    "Sigmoid",
    "Tanh",
]

