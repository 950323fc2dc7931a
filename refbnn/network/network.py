"""Network: layers, the mean and scale of every weight, the law of the noise, and the prior."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from refbnn.errors import InputError
from refbnn.layers import Dense, Layer, Normalise
from refbnn.layers.layer import Shape, layers_in_a_row, shape_of
from refbnn.layers.moments import JointMoments, Moments, deterministic, require_finite_outputs
from refbnn.layers.posterior import Posterior
from refbnn.network import correlated_weights as correlation
from refbnn.network import counter_sampling, linearised, local_sampling
from refbnn.network.input_range import Range, warn_if_far
from refbnn.network.input_shape import shaped
from refbnn.network.layout import Layout
from refbnn.network.memory import MOST_ENTRIES, largest_array, require_moderate
from refbnn.network.table import table
from refbnn.noise.families.gaussian import Gaussian
from refbnn.noise.law import Law
from refbnn.numerics.arguments import (
    positive_number,
    require_known,
    require_methods,
    row_of,
    shown,
    whole_number,
)
from refbnn.numerics.arrays import finite_array, real_array
from refbnn.numerics.random.streams import stream
from refbnn.prior import GaussianPrior, Prior

Weights = dict[str, np.ndarray]

METHODS = ("pfp", "linearised")  # of propagation in one pass, here and in kernels

_INITIAL_SCALE = 0.05  # σ before training: He's means of a 784-wide layer have this spread
_GAUSSIAN = Gaussian()  # one for all: its inverse is built once
_BLOCK = 500  # inputs at a time, to bound the memory of activations


class Network:
    """A Bayesian network: layers in a row, independent weights θ = µ + σ z, z from one law.

    Parameters
    ----------
    layers : iterable of Layer
    law : Law
        Shape of every weight's noise; Gaussian by default.
    prior : Prior
        Prior of every weight; N(0, 1) by default.
    seed : int
        Seed of the initial means: N(0, 2/fan_in) for weights (He et al. 2015), 0 for biases.
    input_shape : tuple of int, optional
        Shape of one input; by default that of a dense first layer, else unknown. `Normalise` may
        stand before it.
    correlated : sequence of int
        Indices of layers whose weights have a full covariance, see
        `refbnn.network.correlated_weights`.

    Attributes
    ----------
    layout : Layout
        Where each weight array lies in a flat one.
    correlation : dict of int to ndarray
        A of each correlated layer, zero at first; training changes it.
    variance_factor : float
        `propagate` multiplies the variance of every weight by this factor, 1 at first; `sample`
        does not. `set_parameters` keeps it, `refbnn.train` makes it 1 again. See
        `refbnn.uncertainty.variance_factor`.
    input_range : (float, float) or None
        Least and greatest entry of the training inputs, which `train` stores: `propagate` and
        `sample` warn of inputs far outside it (`refbnn.network.input_range`).
    likelihood : str or None
        Name of the likelihood that the network was trained with, where that is known.
    noise_sd : tuple of float or None
        Standard deviation of the noise of each target, where all inputs have the same one.
    trained_on : tuple of two str, or None
        Name and fingerprint of the data set that the network was trained on, where known.

    Raises
    ------
    InputError
        If there is no layer, the input does not pass through them, a correlated layer has no
        weights or too many, or another argument is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense, ReLU
    >>> net = Network([Dense(3, 4), ReLU(), Dense(4, 2)], seed=0)
    >>> net.propagate(np.ones((5, 3))).shape
    (5, 2)
    >>> net.sample(np.ones((5, 3)), n_samples=10, rng=np.random.default_rng(0)).shape
    (10, 5, 2)
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        law: Law | None = None,
        prior: Prior | None = None,
        seed: int = 0,
        input_shape: Sequence[int] | None = None,
        correlated: Sequence[int] = (),
    ):
        self.layers = list(layers_in_a_row(layers, "Network"))
        for number, layer in enumerate(self.layers):
            require_methods(layer, Layer, f"Network: layer {number}", "Dense(3, 2)")
        if input_shape is None:
            first = next((layer for layer in self.layers if not isinstance(layer, Normalise)), None)
            input_shape = (first.in_features,) if isinstance(first, Dense) else None
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.input_shape = shape_of(input_shape, "input_shape")
            self.check_input(self.input_shape)
        self.law: Law = _GAUSSIAN if law is None else _law(law)
        if prior is not None:
            require_methods(prior, Prior, "prior", "GaussianPrior(0.3)")
        self.prior: Prior = GaussianPrior() if prior is None else prior
        self.input_range: Range | None = None
        self.variance_factor = 1.0
        self.likelihood: str | None = None
        self.noise_sd: tuple[float, ...] | None = None
        self.trained_on: tuple[str, str] | None = None
        rng = stream(seed, "initial means")
        shapes = {
            f"{index}.{name}": shape
            for index, layer in enumerate(self.layers)
            for name, shape in layer.parameter_shapes().items()
        }
        self.layout = Layout(shapes)
        self._keep({name: _initial_posterior(shape, rng) for name, shape in shapes.items()})
        self.correlation: dict[int, np.ndarray] = {}
        for index in row_of(correlated, "correlated", "indices of layers"):
            part = self.slice_of_layer(index)
            self.correlation[int(index)] = correlation.uncorrelated(part.stop - part.start)

    def __repr__(self) -> str:
        return table(self)

    def parameters(self) -> dict[str, Posterior]:
        """Posterior of every weight array, by name: "0.weight", "0.bias", "2.weight" and so on.

        The arrays are read-only: `set_parameters` replaces them.
        """
        return dict(self._posteriors)

    def set_parameters(self, posteriors: Mapping[str, Posterior]) -> None:
        """Replace the means and scales of every weight by copies.

        Raises
        ------
        InputError
            If a name is missing or unknown, a value is no Posterior, or a shape differs; nothing
            is replaced then.
        """
        if not isinstance(posteriors, Mapping):
            raise InputError(
                f"parameters are {shown(posteriors)}; expected a Posterior for each name, as "
                "parameters() returns them"
            )
        shapes = self.layout.shapes
        for name in [*shapes, *posteriors]:
            if name not in posteriors or name not in shapes:
                raise InputError(f"parameter {name!r}: expected the names {', '.join(shapes)}")
            if not isinstance(posteriors[name], Posterior):
                raise InputError(
                    f"parameter {name!r} is {shown(posteriors[name])}; expected a "
                    "Posterior(mean, scale)"
                )
            if posteriors[name].shape != shapes[name]:
                raise InputError(
                    f"parameter {name!r} has shape {posteriors[name].shape}; "
                    f"expected {shapes[name]}"
                )
        self._keep({name: posteriors[name] for name in shapes})

    def _keep(self, posteriors: Mapping[str, Posterior]) -> None:
        self._posteriors = {
            name: Posterior(_frozen(p.mean), _frozen(p.scale)) for name, p in posteriors.items()
        }

    def with_noise(self, law: Law) -> Network:
        """Return a network of the same means and scales with another law of the noise.

        The variance factor is kept: propagation does not depend on the law. InputError if the law
        has not the methods of `refbnn.noise.Law`.
        """
        other = copy.copy(self)
        other.law = _law(law)
        other.layers = list(self.layers)
        other.correlation = {index: A.copy() for index, A in self.correlation.items()}
        return other

    def with_variance_factor(self, factor: float) -> Network:
        """Return a network of the same weights that propagates `factor` times their variance.

        InputError if the factor is not positive and finite.
        """
        other = self.with_noise(self.law)
        other.variance_factor = positive_number(factor, "variance factor")
        return other

    def propagated_parameters(self) -> dict[str, Posterior]:
        """Parameters with the variances that `propagate` uses: σ² times the variance factor."""
        ratio = np.sqrt(self.variance_factor)
        if ratio == 1.0:
            return self.parameters()
        return {n: Posterior(p.mean, ratio * p.scale) for n, p in self._posteriors.items()}

    def draw(self, rng: np.random.Generator, n_samples: int = 1) -> tuple[Weights, Weights]:
        """Draw posterior samples: the weights θ = µ + σ z and the noise z, by name.

        Each array has a leading axis of length n_samples. In a correlated layer z is R z.
        """
        _require_generator(rng)
        n = whole_number(n_samples, 1, "n_samples")
        flat = self.mixed(self.law.sample(rng, (n, self.layout.size)))
        z = self.layout.views(flat)
        return {n: p.mean + p.scale * z[n] for n, p in self._posteriors.items()}, z

    def mixed(self, z: np.ndarray) -> np.ndarray:
        """R z where a layer is correlated, z elsewhere; (S, P) -> (S, P)."""
        if not self.correlation:
            return z
        u = z.copy()
        for index, A in self.correlation.items():
            part = self.slice_of_layer(index)
            u[:, part] = correlation.mix(A, z[:, part])
        return u

    def slice_of_layer(self, index: int) -> slice:
        """Slice of a flat array that holds one layer's weights; InputError if it has none."""
        whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
        known = whole and 0 <= index < len(self.layers)
        if not known or not self.layers[index].parameter_shapes():
            raise InputError(f"layer {shown(index)}: expected the index of a layer with weights")
        own = [self.layout.slices[f"{index}.{name}"] for name in self._names(index)]
        return slice(own[0].start, own[-1].stop)

    def forward(self, x: ArrayLike, weights: Weights) -> tuple[np.ndarray, list[np.ndarray]]:
        """Output for given weights, and the input of every layer, which `backward` needs.

        Weights with a leading axis of S samples give outputs (S, B, ...).
        """
        x = real_array(x, "x")
        inputs = []
        for layer, own in zip(self.layers, self.by_layer(weights), strict=True):
            inputs.append(x)
            x = layer.forward(x, own)
        return x, inputs

    def backward(self, inputs: list[np.ndarray], weights: Weights, grad_y: np.ndarray) -> Weights:
        """∂L/∂θ by name from g = ∂L/∂y, by the chain rule from the last layer to the first."""
        grads: Weights = {}
        own = self.by_layer(weights)
        first = next((index for index, arrays in enumerate(own) if arrays), len(own))
        for index in range(len(own) - 1, first - 1, -1):
            grad_x, grad_own = self.layers[index].backward(
                inputs[index], own[index], grad_y, need_grad_x=index > first
            )
            grads |= {f"{index}.{name}": grad for name, grad in grad_own.items()}
            if grad_x is not None:
                grad_y = grad_x
        return grads

    def sample(
        self,
        x: ArrayLike,
        n_samples: int = 30,
        rng: np.random.Generator | None = None,
        seed: int | None = None,
        local: bool = False,
    ) -> np.ndarray:
        """Outputs under n_samples independent posterior samples.

        Parameters
        ----------
        x : (B, ...)
        n_samples : int, at least 1
        rng : numpy.random.Generator, optional
            Source of the weights' noise; give this or `seed`.
        seed : int, optional
            Samples 0 to n_samples − 1 of this seed, the weights that the compiled kernels draw
            too (`refbnn.network.counter_sampling`).
        local : bool
            Whether outputs of layers are sampled in place of weights, for each input on its own
            (`refbnn.network.local_sampling`): the same law for one input, for dense networks and
            the Gaussian law.

        Returns
        -------
        (n_samples, B, ...)

        Raises
        ------
        InputError
            If x does not fit or holds NaN or infinity, n_samples is below 1, not exactly one of
            `rng` and `seed` is given, or a layer's output overflows; with `seed`, also if weights
            are correlated; with `local`, also if the network is not dense or not Gaussian.
        """
        if local:
            local_sampling.require_local(self)
        if (rng is None) == (seed is None):
            raise InputError(
                "sample: expected either rng=, a generator of NumPy, or seed=, an integer"
            )
        if rng is not None:
            _require_generator(rng)
        n_samples = whole_number(n_samples, 1, "n_samples")
        x = finite_array(x, "x")
        shape = self._check_batch(x)
        warn_if_far(x, self.input_range)
        blocks = self._blocks(len(x), x.shape[1:])
        outputs = np.empty((n_samples, len(x), *shape))
        if local:
            local_sampling.fill(outputs, self, x, blocks, rng, seed)
            return outputs
        for number, output in enumerate(outputs):  # one set of weights in memory at a time
            if seed is not None:
                weights, _ = counter_sampling.draw(self, seed, number)
            elif rng is not None:
                weights = {name: drawn[0] for name, drawn in self.draw(rng)[0].items()}
            for rows in blocks:
                output[rows] = self._sampled(x[rows].astype(float), self.by_layer(weights))
        return outputs

    def _sampled(self, x: np.ndarray, own: list[dict]) -> np.ndarray:
        """Outputs for given weights, those of every layer checked: tanh would hide infinity."""
        with np.errstate(over="ignore", invalid="ignore"):
            for index, (layer, weights) in enumerate(zip(self.layers, own, strict=True)):
                x = layer.forward(x, weights)
                require_finite_outputs(x, f"layer {index}")
        return x

    @overload
    def propagate(self, x: ArrayLike | Moments, method: Literal["pfp"] = ...) -> Moments: ...

    @overload
    def propagate(self, x: ArrayLike | Moments, method: Literal["linearised"]) -> JointMoments: ...

    @overload
    def propagate(self, x: ArrayLike | Moments, method: str) -> Moments | JointMoments: ...

    def propagate(self, x: ArrayLike | Moments, method: str = "pfp") -> Moments | JointMoments:
        """Moments of the output in one pass, for known inputs (B, ...) or random ones.

        Parameters
        ----------
        x : (B, ...) or Moments
        method : {"pfp", "linearised"}
            "pfp": means and variances alone; every weight has the variance σ² times
            `variance_factor`. "linearised": means and the covariance of the outputs, by a pass back
            through the layers (`refbnn.network.linearised`), of the variances σ²: the factor makes
            up for what "pfp" leaves out.

        Raises
        ------
        InputError
            If x does not fit or holds NaN or infinity, a moment of a layer's output overflows, or a
            layer's weights are correlated: the formulas are those of independent weights. With
            "linearised" also if a layer has no rule, the outputs are no row, or their covariances
            would take absurd memory.
        """
        require_known(method, METHODS, "propagate: method")
        if self.correlation:
            raise InputError(
                f"propagate: layers {sorted(self.correlation)} have correlated weights; expected "
                "independent ones (sample instead)"
            )
        if not isinstance(x, Moments):
            # Integers, such as pixels, would overflow in x².
            x = finite_array(x, "x").astype(float, copy=False)
        self._check_batch(x)
        warn_if_far(x.mean if isinstance(x, Moments) else x, self.input_range)
        if method == "linearised":
            return linearised.propagate(self, x)
        own = self.by_layer(self.propagated_parameters())
        blocks = self._blocks(x.shape[0], x.shape[1:])
        parts = [self._propagated(x[rows], own) for rows in blocks]
        return Moments(
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.var for part in parts]),
        )

    def _propagated(self, x: np.ndarray | Moments, own: list[dict]) -> Moments:
        with np.errstate(over="ignore", invalid="ignore"):  # the results are checked
            (y,) = deque(linearised.forth(self.layers, own, x), maxlen=1)
        return y if isinstance(y, Moments) else deterministic(y)

    def _check_batch(self, x: np.ndarray | Moments) -> Shape:
        """Shape of one output for inputs (B, ...); InputError if they do not fit."""
        if x.shape == self.input_shape or not x.shape:
            raise InputError(
                f"x has shape {x.shape}; expected a first axis of examples, such as x[np.newaxis] "
                "for one"
            )
        return self.check_input(x.shape[1:])

    def check_input(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one output for one input of this shape; InputError naming the misfit layer."""
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except InputError as error:
                raise InputError(f"layer {index}: {error}") from None
        return shape

    @property
    def output_shape(self) -> Shape | None:
        """Shape of one output, where that of the input is known."""
        return None if self.input_shape is None else self.check_input(self.input_shape)

    def shaped(self, x: np.ndarray) -> np.ndarray:
        """x (N, ...) in shape (N, *input_shape): images become rows for a dense network.

        InputError if the axes of an example do not fit (`refbnn.network.input_shape`) or, where the
        network does not know the shape of its input, would take absurd memory
        (`refbnn.network.memory`).
        """
        if self.input_shape is not None:
            return shaped(x, self.input_shape)
        self.check_input(x.shape[1:])
        require_moderate(self.layers, x.shape[1:])
        return x

    def by_layer(self, arrays: Mapping) -> list[dict]:
        """One dictionary for each layer: "2.weight" becomes "weight" in that of layer 2.

        InputError if an array is missing.
        """
        if not isinstance(arrays, Mapping):
            raise InputError(f"arrays by name are {shown(arrays)}; expected a dictionary")
        try:
            return [
                {name: arrays[f"{index}.{name}"] for name in self._names(index)}
                for index in range(len(self.layers))
            ]
        except KeyError as error:
            raise InputError(f"no array {error}; expected one for every parameter") from None

    def _names(self, index: int) -> list[str]:
        return list(self.layers[index].parameter_shapes())

    def _blocks(self, n: int, shape: Shape) -> list[slice]:
        """Blocks of n inputs of this shape: fewer at a time where activations are large."""
        block = max(1, min(_BLOCK, MOST_ENTRIES // max(1, largest_array(self.layers, shape))))
        return [slice(start, start + block) for start in range(0, max(n, 1), block)]


def _law(law: Law) -> Law:
    """The law; InputError if it is none."""
    require_methods(law, Law, "law", "Gaussian()")
    return law


def _require_generator(rng: np.random.Generator) -> None:
    if not isinstance(rng, np.random.Generator):
        raise InputError(
            f"rng is {shown(rng)}; expected a generator of NumPy, such as np.random.default_rng(0)"
        )


def require_network(net: object, name: str) -> None:
    """InputError unless it is a network; the message opens with `name`."""
    if not isinstance(net, Network):
        raise InputError(f"{name}: net is {shown(net)}; expected a Network")


def _frozen(array: np.ndarray) -> np.ndarray:
    """A copy that nobody can write to: a view of a read-only array."""
    own = np.array(array)
    own.flags.writeable = False
    return own.view()


def _initial_posterior(shape: tuple[int, ...], rng: np.random.Generator) -> Posterior:
    if len(shape) == 1:
        mean = np.zeros(shape)
    else:
        fan_in = prod(shape[1:])
        mean = rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
    return Posterior(mean, np.full(shape, _INITIAL_SCALE))
