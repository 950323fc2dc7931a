"""Network: layers, the mean and scale of every weight, the law of their noise, and their prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refbnn.errors import InputError
from refbnn.layers import Layer
from refbnn.moments import Moments
from refbnn.noise.gaussian import Gaussian
from refbnn.noise.law import Law
from refbnn.posterior import Posterior
from refbnn.prior import GaussianPrior, Prior
from refbnn.streams import stream

Weights = dict[str, np.ndarray]

_INITIAL_SCALE = 0.05  # σ before training: He's means of a 784-wide layer have this spread


class Network:
    """A Bayesian network: layers in a row, independent weights θ = µ + σ z, z from one law.

    Parameters
    ----------
    layers : sequence of Layer
    law : Law
        Shape of every weight's noise; Gaussian by default.
    prior : Prior
        Prior of every weight; N(0, 1) by default.
    seed : int
        Of the initial means: He 2015, N(0, 2/fan_in) for weights, 0 for biases.

    Raises
    ------
    InputError
        If there is no layer.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        law: Law | None = None,
        prior: Prior | None = None,
        seed: int = 0,
    ):
        if not layers:
            raise InputError("Network: no layers; expected at least one")
        self.layers = list(layers)
        self.law: Law = Gaussian() if law is None else law
        self.prior: Prior = GaussianPrior() if prior is None else prior
        rng = stream(seed, "initial means")
        self._posteriors = {
            f"{index}.{name}": _initial_posterior(shape, rng)
            for index, layer in enumerate(self.layers)
            for name, shape in layer.parameter_shapes().items()
        }

    def parameters(self) -> dict[str, Posterior]:
        """Posterior of every weight array, by name: "0.weight", "0.bias", "2.weight" and so on."""
        return dict(self._posteriors)

    def set_parameters(self, posteriors: Mapping[str, Posterior]) -> None:
        """Replace the means and scales of every weight.

        Raises
        ------
        InputError
            If a name is missing or unknown, or a shape differs; nothing is replaced then.
        """
        for name in [*self._posteriors, *posteriors]:
            if name not in posteriors or name not in self._posteriors:
                raise InputError(
                    f"parameter {name!r}: expected the names {', '.join(self._posteriors)}"
                )
            if posteriors[name].shape != self._posteriors[name].shape:
                raise InputError(
                    f"parameter {name!r} has shape {posteriors[name].shape}; "
                    f"expected {self._posteriors[name].shape}"
                )
        self._posteriors = {name: posteriors[name] for name in self._posteriors}

    def with_noise(self, law: Law) -> Network:
        """Return a network of the same means and scales with another shape of noise."""
        other = Network.__new__(Network)
        other.layers, other.law, other.prior = self.layers, law, self.prior
        other._posteriors = dict(self._posteriors)
        return other

    def draw(self, rng: np.random.Generator, n_samples: int = 1) -> tuple[Weights, Weights]:
        """Draw posterior samples: the weights θ = µ + σ z and the noise z, by name.

        Each array has a leading axis of length n_samples.
        """
        posteriors = self._posteriors
        z = {n: self.law.sample(rng, (n_samples, *p.shape)) for n, p in posteriors.items()}
        return {n: p.mean + p.scale * z[n] for n, p in posteriors.items()}, z

    def forward(self, x: np.ndarray, weights: Weights) -> tuple[np.ndarray, list[np.ndarray]]:
        """Output for given weights, and the input of every layer, which `backward` needs.

        Weights with a leading axis of S samples give outputs (S, B, ...).
        """
        inputs = []
        for index, layer in enumerate(self.layers):
            inputs.append(x)
            x = layer.forward(x, self._of_layer(index, weights))
        return x, inputs

    def backward(self, inputs: list[np.ndarray], weights: Weights, grad_y: np.ndarray) -> Weights:
        """∂L/∂θ by name from g = ∂L/∂y, by the chain rule from the last layer to the first."""
        grads: Weights = {}
        trained = [i for i, layer in enumerate(self.layers) if layer.parameter_shapes()]
        if not trained:
            return grads
        for index in range(len(self.layers) - 1, trained[0] - 1, -1):
            own = self._of_layer(index, weights)
            grad_x, grad_own = self.layers[index].backward(
                inputs[index], own, grad_y, need_grad_x=index > trained[0]
            )
            grads |= {f"{index}.{name}": grad for name, grad in grad_own.items()}
            if grad_x is not None:
                grad_y = grad_x
        return grads

    def sample(self, x: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Outputs under n_samples independent posterior samples.

        Parameters
        ----------
        x : (B, ...)
        n_samples : int, at least 1
        rng : numpy.random.Generator

        Returns
        -------
        (n_samples, B, ...)
        """
        x = np.asarray(x, dtype=float)
        shape = self.check_input(x.shape[1:])
        if n_samples < 1:
            raise InputError(f"n_samples is {n_samples}; expected at least 1")
        outputs = np.empty((n_samples, len(x), *shape))
        for output in outputs:  # never more than one set of weights in memory
            output[...] = self.forward(x, self.draw(rng)[0])[0]
        return outputs

    def propagate(self, x: np.ndarray | Moments) -> Moments:
        """Moments of the output in one pass, for known inputs (B, ...) or random ones."""
        if not isinstance(x, Moments):
            x = np.asarray(x, dtype=float)  # integers, such as pixels, would overflow in x²
        self.check_input(x.shape[1:])
        for index, layer in enumerate(self.layers):
            x = layer.moments(x, self._of_layer(index, self._posteriors))
        assert isinstance(x, Moments)  # there is at least one layer
        return x

    def check_input(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one output for one input of this shape; InputError naming the misfit layer."""
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except InputError as error:
                raise InputError(f"layer {index}: {error}") from None
        return shape

    def _of_layer(self, index: int, arrays: Mapping) -> dict:
        return {name: arrays[f"{index}.{name}"] for name in self.layers[index].parameter_shapes()}


def _initial_posterior(shape: tuple[int, ...], rng: np.random.Generator) -> Posterior:
    if len(shape) == 1:
        mean = np.zeros(shape)
    else:
        fan_in = int(np.prod(shape[1:]))
        mean = rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
    return Posterior(mean, np.full(shape, _INITIAL_SCALE))
