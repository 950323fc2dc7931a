"""Layers, one file each: forward pass, backward pass and moments side by side.

Start with `layer` (the interface) and `dense`; `moments` and `posterior` are the arrays they take.
"""

from refbnn.layers.activations import ACTIVATIONS
from refbnn.layers.activations.elu import ELU
from refbnn.layers.activations.gelu import GELU
from refbnn.layers.activations.leaky_relu import LeakyReLU
from refbnn.layers.activations.relu import ReLU
from refbnn.layers.activations.sigmoid import Sigmoid
from refbnn.layers.activations.tanh import Tanh
from refbnn.layers.dense import Dense
from refbnn.layers.images.avg_pool2d import AvgPool2d
from refbnn.layers.images.batch_norm import BatchNorm2d
from refbnn.layers.images.conv2d import Conv2d
from refbnn.layers.images.flatten import Flatten
from refbnn.layers.images.max_pool2d import MaxPool2d
from refbnn.layers.layer import Layer
from refbnn.layers.normalise import Normalise
from refbnn.layers.residual import Residual

globals().update(ACTIVATIONS)

__all__ = [
    "ELU",
    "GELU",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "Normalise",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Tanh",
]
__all__ += sorted(ACTIVATIONS.keys() - set(__all__))
