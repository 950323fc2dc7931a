"""A network under sampled weights as one kernel: all layers and all samples in one function.

It computes `refbnn.Network.sample` with a seed, in float32: sample s of a seed has the same
weights here, there and on every target. The function does one sample after the other, from the
first layer with weights on. It stores no weight matrix, and activations of one sample only: of B
inputs in place of S·B. A LeNet-5 with 30 samples of 10 inputs takes 0.7 MB of memory and 6.5 ms,
with AVX-512. Layer by layer, with all samples of each, means and scales would be read once, but
that takes 19.5 MB and 9.0 ms.

With `local`, outputs of layers are drawn in place of weights (`kernels.sampling.local`), layer by
layer: the samples are a batch, which shares the weights that are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike

from kernels.devices import Board, targets
from kernels.devices.instructions import InstructionCount
from kernels.devices.targets import Target
from kernels.layers import images
from kernels.layers.layer import add_layer
from kernels.network import input_layout
from kernels.prediction import samples
from kernels.program.compiled import NOT_FINITE, numbers, put
from kernels.program.kernel import Kernel, build
from kernels.program.locks import Once
from kernels.program.program import Plain, Program, Rows
from kernels.sampling import conv2d as sampled_conv2d
from kernels.sampling import dense as sampled_dense
from kernels.sampling import local as sampled_local
from kernels.sampling import weights as sampled_weights
from refbnn.errors import InputError
from refbnn.layers import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, Normalise, ReLU
from refbnn.layers.moments import Moments
from refbnn.network.input_range import Range, warn_if_far
from refbnn.network.local_sampling import require_local
from refbnn.network.network import Network, require_network
from refbnn.numerics.arguments import whole_number
from refbnn.numerics.arrays import all_finite
from refbnn.numerics.random.philox import key_of
from refbnn.prediction.predict import SVI_SAMPLES, require_classifier
from refbnn.prediction.result import Prediction, class_logits

_TOO_LARGE = "outputs too large for float32; expected smaller inputs or weights"


@dataclass(frozen=True, eq=False)
class SampledNetwork:
    """A compiled network of sampled weights; `net.sample(x, S, seed=seed)` in float32.

    Threads, pickles and copies are as in `kernels.program.compiled.CompiledNetwork`.

    Parameters
    ----------
    kernel : Kernel
    again : callable without arguments
        Compiles the network again, for pickles and copies.
    trained : (float, float), optional
        Range of the inputs that the network was trained on; inputs far outside draw a warning
        (`refbnn.network.input_range`).
    likelihood : str, optional
        Likelihood that the network was trained with: `predict` is for classifiers.
    predicting : callable without arguments, optional
        Compiles the function that `predict` calls, once.
    """

    kernel: Kernel
    again: Callable[[], SampledNetwork] = field(repr=False)
    trained: Range | None = None
    likelihood: str | None = None
    predicting: Callable[[], Kernel] | None = field(default=None, repr=False)

    def __call__(self, x: ArrayLike, seed: int) -> np.ndarray:
        """Outputs under each sample.

        Parameters
        ----------
        x : array_like, (batch, ...), of real numbers
        seed : int, from 0 to 2⁶⁴ − 1

        Returns
        -------
        (S, batch, ...)
            A fresh float32 array.

        Raises
        ------
        InputError
            If x is not such an array, or holds NaN, infinity or a number too large for float32;
            the seed is out of its range; or an output, or a number inside of the network, is too
            large for float32.
        """
        key = key_of(seed)
        words, view = self.kernel.inputs
        with self.kernel.lock:
            words[...] = key
            put(x, view)
            if not all_finite(view):
                raise InputError(NOT_FINITE)
            warn_if_far(view, self.trained)
            self.kernel.run()
            outputs = self.kernel.outputs[0].copy()
        if not all_finite(outputs):
            raise InputError(_TOO_LARGE)
        return outputs

    def __reduce__(self) -> tuple[Callable, tuple]:
        """Compile again where it is unpickled or copied: machine code is of this process."""
        return self.again, ()

    def instruction_count(self, x: ArrayLike, seed: int) -> InstructionCount:
        """Count the instructions of a call; errors as there, and if the device cannot count."""
        self(x, seed)  # for its checks
        return self.kernel.instruction_count(key_of(seed), x)

    def predict(self, x: ArrayLike, seed: int) -> Prediction:
        """Predict classes with their uncertainty, as `refbnn.predict(..., method="svi")` does.

        Parameters and errors as in a call. One output is the logit of the second of two classes.
        The first call compiles a second function, which gives statistics of the samples in place of
        the samples, and shares the weights with the first.

        Raises
        ------
        InputError
            Also for fewer than 2 samples, and if the network was trained on targets.
        """
        require_classifier(self.likelihood)
        key, x = key_of(seed), numbers(x, self.kernel.inputs[1].shape)
        kernel = self._predictor
        words, view = kernel.inputs
        with kernel.lock:
            words[...] = key
            put(x, view)
            if not all_finite(view):
                raise InputError(NOT_FINITE)
            warn_if_far(view, self.trained)
            kernel.run()
            mean, var, p, found = (view.copy() for view in kernel.outputs)
        if not (all_finite(mean) and all_finite(var)):
            raise InputError(_TOO_LARGE)
        logits = class_logits(Moments.unchecked(mean, var))
        return Prediction.computed(logits, p, found[0], found[1], found[2])

    @cached_property
    def _predictor(self) -> Kernel:
        """Kernel that finds the statistics of the samples."""
        shape = self.kernel.outputs[0].shape
        if len(shape) != 3 or shape[0] < 2 or self.predicting is None:
            raise InputError(
                f"predict: outputs have shape {shape}; expected (samples, batch, outputs) with at "
                "least 2 samples"
            )
        return self.predicting()


def compile_sampled(
    net: Network,
    batch_size: int,
    n_samples: int = SVI_SAMPLES,
    target: str = "host",
    schedule: str = "hand",
    device: str | Board = "local",
    constant_time: bool = False,
    local: bool = False,
) -> SampledNetwork:
    """Compile a network for batches of one size and a number of samples of its weights.

    Parameters
    ----------
    net : Network
        Its weights are copied, in float32; its law becomes a table.
    batch_size, n_samples : int, at least 1
    target, schedule, device, constant_time
        As in `kernels.compile_network`; weights of inputs that are left out are not even made.
    local : bool
        Whether outputs of layers are drawn in place of weights, as in `Network.sample`
        (`kernels.sampling.local`): for dense networks and the Gaussian law.

    Raises
    ------
    InputError
        If an argument is none of these, a layer has no kernel, weights are correlated, the law has
        no table, a weight is too large for float32; or the network is not one for `local`.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import compile_sampled
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense
    >>> net, x = Network([Dense(4, 3)], seed=0), np.ones((2, 4))
    >>> fast = compile_sampled(net, batch_size=2, n_samples=5)
    >>> np.allclose(fast(x, seed=1), net.sample(x, 5, seed=1), atol=1e-5)
    True
    """
    require_network(net, "compile_sampled")
    n_samples = whole_number(n_samples, 1, "n_samples")
    whole = program(net, batch_size, n_samples, targets.target(target), constant_time, local)
    options = batch_size, n_samples, target, schedule, device, constant_time, local
    bare = whole.copy()
    kernel = build(whole, schedule, device=device)
    return SampledNetwork(
        kernel,
        partial(compile_sampled, net.with_noise(net.law), *options),
        net.input_range,
        net.likelihood,
        Once(partial(_predicting, bare, kernel.weights, n_samples, schedule, device)),
    )


def _predicting(
    program: Program,
    weights: Sequence[np.ndarray],
    n_samples: int,
    schedule: str,
    device: str | Board,
) -> Kernel:
    """Compile a network, whose weights lie in memory, for the statistics of its samples."""
    program = program.copy()  # as it is for another time, if this one is interrupted
    program.weights = [
        (tensor, values) for (tensor, _), values in zip(program.weights, weights, strict=True)
    ]
    ((layout, logits),) = program.outputs
    (n_outputs,) = layout.shape
    mean, var, p, found = samples.add(program, "predict", logits, n_samples, n_outputs)
    program.outputs = []
    program.give_arrays(Rows(n_outputs, program.target.lanes), mean, var)
    program.give_arrays(Rows(max(2, n_outputs), program.target.lanes), p)
    program.give_arrays(Plain((4, program.batch)), found)
    return build(program, schedule, device=device)


def program(
    net: Network,
    batch: int,
    n_samples: int,
    target: Target,
    constant_time: bool = False,
    local: bool = False,
) -> Program:
    """The program of a network; parameters and errors as in `compile_sampled`."""
    if local:
        require_local(net)
    if net.correlation:
        raise InputError(
            f"compile_sampled: layers {sorted(net.correlation)} have correlated weights; expected "
            "independent ones"
        )
    whole = Program(target, batch, flush=True, constant_time=constant_time)
    source = sampled_weights.source(whole, net.law, n_samples)
    x, program = whole.known(input_layout(net, target)), whole
    first: str | None = None
    of_layers = net.by_layer(net.parameters())
    for index, (layer, own) in enumerate(zip(net.layers, of_layers, strict=True)):
        name = f"layer{index}"
        match layer:
            case Dense() if local:
                x = sampled_local.add(whole, name, index, own, x, source)
            case Dense():
                x = sampled_dense.add(whole, name, index, own, x, source)
            case Conv2d():
                x = sampled_conv2d.add(whole, name, index, layer, own, x, source)
            case ReLU() | MaxPool2d() | AvgPool2d() | Flatten() | Normalise():
                x = add_layer(program, name, layer, own, x)
            case _:
                raise InputError(
                    f"layer {index}: {type(layer).__name__} has no kernel for sampled weights; "
                    "expected Dense, Conv2d, ReLU, MaxPool2d, AvgPool2d, Flatten or Normalise"
                )
        if own:  # all layers after this one differ from sample to sample
            first = first or name
            program = sampled_weights.under_samples(whole, source)
    if first is None:
        raise InputError("the network has no weights; expected a layer to sample")
    if not isinstance(x.layout, Rows):
        x = images.unpacked(program, "unpacked", x)
    if not local:
        sampled_weights.one_by_one(whole, first, x, source)
    sampled_weights.give(whole, x, source)
    return whole
