"""Dense layers and convolutions alone, by the shapes of their posteriors."""

from kernels.layers.layer import build_layer, layer_program
from refbnn.layers import Conv2d, Dense


def _dense(weight, bias):
    n_out, n_in = weight.shape
    return Dense(n_in, n_out), {"weight": weight, "bias": bias}, (n_in,)


def _conv2d(weight, bias, image, stride, padding, groups):
    n_out, per_group, *kernel = weight.shape
    n_in = per_group * groups
    layer = Conv2d(n_in, n_out, tuple(kernel), stride, padding, groups)
    return layer, {"weight": weight, "bias": bias}, (n_in, *image)


def dense_program(weight, bias, *arguments):
    """Program of a dense layer; further arguments as in `kernels.layers.layer.layer_program`."""
    return layer_program(*_dense(weight, bias), *arguments)


def build_dense(weight, bias, *arguments, **options):
    """Kernel of a dense layer; further arguments as in `kernels.layers.layer.build_layer`."""
    return build_layer(*_dense(weight, bias), *arguments, **options)


def conv2d_program(weight, bias, image, sizes, *arguments):
    """Program of a convolution on images (H, W), `sizes` its stride, padding and groups."""
    return layer_program(*_conv2d(weight, bias, image, *sizes), *arguments)


def build_conv2d(weight, bias, image, sizes, *arguments):
    """Kernel of a convolution on images (H, W), `sizes` its stride, padding and groups."""
    return build_layer(*_conv2d(weight, bias, image, *sizes), *arguments)
