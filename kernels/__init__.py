"""kernels: the operators of refbnn as TVM kernels, under the same names."""

from kernels.network import compile_network

__all__ = ["compile_network"]
