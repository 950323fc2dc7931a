"""Activations, one file each. Start with `relu`; `elementwise` holds what they share.

A new file here with a subclass of `Elementwise` is a new layer: `refbnn.layers` hands it on, files
of networks may hold it, and `kernels` finds its kernel in the file of the same name. `elementwise`
says which methods it needs: three, and one more for linearised propagation.
"""

from importlib import import_module
from pkgutil import iter_modules

from refbnn.layers.activations.elementwise import Elementwise

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")

ACTIVATIONS = {layer.__name__: layer for layer in Elementwise.__subclasses__()}
