"""Moments: the means and variances that propagation hands from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from refbnn.errors import InputError
from refbnn.numerics.arrays import all_finite, real_array

if TYPE_CHECKING:
    from refbnn.layers.images.shared_weights import SharedWeights

MEAN_NOT_FINITE = "moments: the mean holds NaN or infinity; expected finite numbers"
NO_VARIANCE = (
    "moments: the variance holds a negative, NaN or infinite entry; "
    "expected finite numbers of at least 0"
)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of every entry of an array of random variables.

    They count as independent, but for those of one channel of a convolution's outputs, which share
    weights: pooling asks `shared` for the covariances in a window. An index, a slice, a mask or
    indices give the moments of those rows, with what they share; another index gives moments of
    entries that count as independent.

    Parameters
    ----------
    mean : array_like, any shape
        E[x].
    var : array_like, same shape
        E[(x − E[x])²]; zero where an entry is deterministic.
    shared : SharedWeights, optional
        Covariances within a channel, see `refbnn.layers.images.shared_weights`.

    Raises
    ------
    InputError
        If the shapes differ, a variance is negative, or an entry is NaN or infinite.

    Examples
    --------
    >>> from refbnn import Moments
    >>> x = Moments([[1.0, 2.0], [3.0, 4.0]], [[0.1, 0.2], [0.3, 0.4]])
    >>> x.shape
    (2, 2)
    >>> x[1]
    Moments(mean=array([3., 4.]), var=array([0.3, 0.4]))
    """

    mean: np.ndarray
    var: np.ndarray
    shared: SharedWeights | None = field(default=None, repr=False, kw_only=True)

    if TYPE_CHECKING:  # lists become arrays

        def __init__(
            self, mean: ArrayLike, var: ArrayLike, *, shared: SharedWeights | None = None
        ) -> None: ...

    def __post_init__(self):
        mean, var = real_arrays(self, "mean", "var", "moments")
        if not all_finite(mean):
            raise InputError(MEAN_NOT_FINITE)
        if var.size and not (all_finite(var) and var.min() >= 0.0):
            raise InputError(NO_VARIANCE)

    @classmethod
    def unchecked(cls, mean: np.ndarray, var: np.ndarray) -> Moments:
        """Moments of arrays that are known to be right, such as a compiled network's outputs.

        The checks would take as long as a small compiled network.
        """
        moments = object.__new__(cls)
        entries = moments.__dict__  # by __init__ it would take twice as long
        entries["mean"], entries["var"], entries["shared"] = mean, var, None
        return moments

    __iter__ = None  # `mean, var = moments` would unpack two rows

    def __getitem__(self, rows) -> Moments:
        part = Moments.unchecked(self.mean[rows], self.var[rows])
        if self.shared is not None and self.mean.ndim == 4 and _picks_rows(rows):
            part.__dict__["shared"] = self.shared[rows]
        return part

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mean, and of the variance."""
        return self.mean.shape


@dataclass(frozen=True, eq=False)
class JointMoments:
    """Mean and covariance of random vectors. A slice, a mask or indices give those of these rows.

    Parameters
    ----------
    mean : array_like (B, n)
    cov : array_like (B, n, n)
        Symmetric; positive semidefinite to rounding.

    Raises
    ------
    InputError
        If one is no array of real numbers, the shapes do not belong together, an entry is NaN or
        infinite, a variance is negative.

    Examples
    --------
    >>> from refbnn.layers.moments import JointMoments
    >>> y = JointMoments(np.zeros((1, 2)), np.array([[[1.0, 0.5], [0.5, 2.0]]]))
    >>> y.var
    array([[1., 2.]])
    >>> y[:1].shape
    (1, 2)
    """

    mean: np.ndarray
    cov: np.ndarray

    if TYPE_CHECKING:  # lists become arrays

        def __init__(self, mean: ArrayLike, cov: ArrayLike) -> None: ...

    def __post_init__(self):
        for field_name in ("mean", "cov"):
            _make_real(self, field_name, "joint moments")
        if self.mean.ndim != 2 or self.cov.shape != (*self.mean.shape, self.mean.shape[1]):
            raise InputError(
                f"joint moments: mean has shape {self.mean.shape} and covariance "
                f"{self.cov.shape}; expected (B, n) and (B, n, n)"
            )
        if not (all_finite(self.mean) and all_finite(self.cov)):
            raise InputError("joint moments: NaN or infinity; expected finite numbers")
        if self.cov.size and self.var.min() < 0.0:
            raise InputError("joint moments: negative variance; expected numbers of at least 0")

    @classmethod
    def unchecked(cls, mean: np.ndarray, cov: np.ndarray) -> JointMoments:
        """Joint moments of arrays that are known to be right, as `Moments.unchecked`."""
        joint = object.__new__(cls)
        joint.__dict__.update(mean=mean, cov=cov)
        return joint

    __iter__ = None  # as of Moments

    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> JointMoments:
        return JointMoments(self.mean[rows], self.cov[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mean, (B, n)."""
        return self.mean.shape

    @property
    def var(self) -> np.ndarray:
        """Variance of each entry, (B, n): a view of the covariance."""
        return np.diagonal(self.cov, axis1=1, axis2=2)

    @property
    def marginal(self) -> Moments:
        """Mean and variance of each entry, (B, n)."""
        return Moments(self.mean, self.var.copy())


def real_arrays(pair: object, first: str, second: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The two fields of a frozen dataclass as arrays of floats; lists and integers become such.

    Raises
    ------
    InputError
        If a field is no array of real numbers, or the shapes differ; the message opens with `name`.
    """
    a, b = (_make_real(pair, field, name) for field in (first, second))
    if a.shape != b.shape:
        raise InputError(
            f"{name}: {first} has shape {a.shape} and {second} {b.shape}; expected the same shape"
        )
    return a, b


def _make_real(owner: object, field: str, name: str) -> np.ndarray:
    """Make a field of a frozen dataclass an array of floats."""
    array = real_array(getattr(owner, field), f"{name}: {field}")
    if array.dtype.kind != "f":  # squares of small integers would overflow
        array = array.astype(float)
    object.__setattr__(owner, field, array)
    return array


def _picks_rows(index: object) -> bool:
    """Whether an index is one of the first axis alone."""
    if isinstance(index, slice):
        return True
    if not isinstance(index, int | np.integer | list | np.ndarray):
        return False
    array = np.asarray(index)
    return array.ndim == 1 or (array.ndim == 0 and array.dtype.kind in "iu")


def require_finite_outputs(y: np.ndarray, layer: str) -> None:
    """Raise InputError where outputs overflowed: the next layer may make numbers of them again."""
    if not all_finite(y):
        raise InputError(
            f"{layer}: an output is NaN, infinite or too large for {y.dtype}; expected smaller "
            "inputs or weights"
        )


def deterministic(x: np.ndarray) -> Moments:
    """View known values as moments of variance zero; shape kept."""
    return Moments(x, np.zeros_like(x))
