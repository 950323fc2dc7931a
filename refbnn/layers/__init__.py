"""Layers, one file each: forward, backward and moments side by side."""

from refbnn.layers.avg_pool2d import AvgPool2d
from refbnn.layers.batch_norm import BatchNorm2d
from refbnn.layers.conv2d import Conv2d
from refbnn.layers.dense import Dense
from refbnn.layers.elu import ELU
from refbnn.layers.flatten import Flatten
from refbnn.layers.gelu import GELU
from refbnn.layers.layer import Layer
from refbnn.layers.leaky_relu import LeakyReLU
from refbnn.layers.max_pool2d import MaxPool2d
from refbnn.layers.relu import ReLU
from refbnn.layers.residual import Residual
from refbnn.layers.sigmoid import Sigmoid
from refbnn.layers.tanh import Tanh

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
    "ReLU",
    "Residual",
    "Sigmoid",
    "Tanh",
]
