"""kernels: the operators of refbnn as TVM kernels, under the same names.

`compile_network` propagates moments; `compile_sampled` draws weights, sample after sample.
"""

from refbnn.errors import naming_the_extra

with naming_the_extra():
    from kernels.network import compile_network
    from kernels.sampled_network import compile_sampled

__all__ = ["compile_network", "compile_sampled"]
