"""A perpendicular magnetic tunnel junction with a low barrier, and its equilibrium.

The free layer of a small junction is one magnetic moment, m on the unit sphere (macrospin), with
the energy E = −M_s V (½ B_k m_z² + B_bias m_z): an easy axis z and a bias along it. When its
barrier is a few k_B T, heat turns it over all the time (`refbnn.noise.junction.simulate`).

Equilibrium: on the sphere dm_z dφ is the area, so m_z has the exact, bounded law

    p(m_z) ∝ exp(Δ m_z² + h m_z) on [−1, 1],    Δ = M_s V B_k/(2 k_B T),  h = M_s V B_bias/(k_B T).

Conductance: G = (G_P+G_AP)/2 + (G_P−G_AP)/2 · m_z, with G_AP = G_P/(1+TMR).

Sources: Brown 1963 (Phys. Rev. 130, 1677) for the law and its relaxation; Slonczewski 1989
(Phys. Rev. B 39, 6995) for G.
"""

from dataclasses import dataclass, fields
from math import isfinite, pi

import numpy as np
from numpy.typing import ArrayLike
from scipy.constants import value
from scipy.linalg import eigh_tridiagonal

from refbnn.errors import InputError
from refbnn.numerics.arrays import real_array

K_B = value("Boltzmann constant")  # J/K
GAMMA = value("electron gyromag. ratio")  # rad/(s T)
HIGHEST_BARRIER = 8.0  # in k_B T: a million steps between reads, and exp(Δ) times as many beyond


@dataclass(frozen=True)
class Junction:
    """A perpendicular magnetic tunnel junction with a round free layer, read at a small voltage.

    All numbers are above 0, but T and B_k may be 0 and B_bias has any sign.

    Raises
    ------
    InputError
        If a value is not a number or out of its range.
    """

    diameter: float = 20e-9  # of the free layer, m
    thickness: float = 1e-9  # of the free layer, m
    M_s: float = 1e6  # saturation magnetisation, A/m
    alpha: float = 0.1  # Gilbert damping: it changes how fast, not how often, a state is taken
    T: float = 300.0  # temperature, K
    # Effective anisotropy field along the easy axis z, T; the demagnetising field is subtracted
    # already. The default makes a barrier of 1.5 k_B T.
    B_k: float = 39.55e-3
    # Field along z (stray field of the reference layer), T. The default favours the parallel state
    # by 0.3 k_B T.
    B_bias: float = 3.955e-3
    G_P: float = 100.0  # conductance with free and reference layer parallel (m_z = 1), µS
    TMR: float = 1.2  # tunnel magnetoresistance G_P/G_AP − 1

    def __post_init__(self) -> None:
        for field in fields(self):
            number = getattr(self, field.name)
            if isinstance(number, bool) or not isinstance(number, int | float | np.number):
                raise InputError(f"junction {field.name}: {number!r}; expected a number")
            zero, any_sign = "0 or more", "any"
            wanted = {"T": zero, "B_k": zero, "B_bias": any_sign}.get(field.name, "above 0")
            in_range = number > 0 or wanted == any_sign or (wanted == zero and number == 0)
            if not (isfinite(number) and in_range):
                raise InputError(f"junction {field.name}: {number}; expected {wanted}, finite")

    @property
    def moment(self) -> float:
        """Magnetic moment M_s V of the free layer, A m²."""
        return self.M_s * pi / 4 * self.diameter**2 * self.thickness

    @property
    def barrier(self) -> float:
        """Δ = M_s V B_k / (2 k_B T), dimensionless; InputError at T = 0."""
        return self.moment * self.B_k / (2 * self._heat)

    @property
    def bias(self) -> float:
        """h = M_s V B_bias / (k_B T), dimensionless; InputError at T = 0."""
        return self.moment * self.B_bias / self._heat

    @property
    def G_AP(self) -> float:
        """Conductance with free and reference layer antiparallel (m_z = −1), µS."""
        return self.G_P / (1 + self.TMR)

    @property
    def rotational_diffusion(self) -> float:
        """D_r = αγ k_B T / ((1+α²) M_s V), rad²/s."""
        return self.alpha * GAMMA * K_B * self.T / ((1 + self.alpha**2) * self.moment)

    @property
    def _heat(self) -> float:
        if self.T == 0:
            raise InputError("junction T: 0; expected above 0 where an equilibrium is asked for")
        return K_B * self.T


DEFAULT = Junction()


def boltzmann_density(m_z: ArrayLike, junction: Junction = DEFAULT) -> np.ndarray:
    """Exact equilibrium density of m_z, exp(Δ m_z² + h m_z)/Z on [−1, 1] and 0 outside.

    Parameters
    ----------
    m_z : array_like
    junction : Junction
        With T > 0.

    Returns
    -------
    ndarray of the shape of m_z
    """
    m_z = real_array(m_z, "m_z").astype(float)
    outside = np.abs(m_z) > 1
    weight = np.exp(_exponent(np.where(outside, 0, m_z), junction))
    return np.where(outside, 0, weight) / _integral(np.array(1.0), junction)


def boltzmann_cdf(m_z: ArrayLike, junction: Junction = DEFAULT) -> np.ndarray:
    """Exact equilibrium probability of a value below m_z, by Gauss-Legendre quadrature.

    200 nodes between −1 and m_z are exact to rounding for Δ + |h| up to 100 (the integrand is
    entire), and stay so as Δ → 0, where the closed form in Dawson's function cancels.

    Parameters
    ----------
    m_z : array_like
        The result is 0 below −1 and 1 above 1.
    junction : Junction
        With T > 0.

    Returns
    -------
    ndarray of the shape of m_z
    """
    clipped = np.clip(real_array(m_z, "m_z").astype(float), -1, 1)
    return _integral(clipped, junction) / _integral(np.array(1.0), junction)


def correlation_time(junction: Junction = DEFAULT) -> float:
    """Longest relaxation time of m_z, s: its autocorrelation at lag t is at most exp(−t/τ).

    m_z alone diffuses: ∂p/∂t = D_r ∂/∂z [(1−z²) (∂p/∂z − w′p)] with w = Δz² + hz. In 400 cells of
    width δ, made symmetric by √p, that is a tridiagonal matrix with the entries
    (1−z_f²) exp(w_f − w)/δ² of the faces f; its lowest eigenvalue is 0 (equilibrium), the next one
    1/(D_r τ). The error of order δ² is 1e-5 relative at the default junction.

    Raises
    ------
    InputError
        If T is 0, or the barrier Δ + |h| above 8: too high to be crossed in a simulation.
    """
    barrier = junction.barrier + abs(junction.bias)
    if barrier > HIGHEST_BARRIER:
        raise InputError(
            f"junction barrier: {barrier:.3g} k_B T; expected at most {HIGHEST_BARRIER:g}, "
            "else the junction does not turn over within a simulation"
        )
    edges = np.linspace(-1, 1, 401)
    face, cell = edges[1:-1], (edges[1:] + edges[:-1]) / 2
    w_face, w_cell = _exponent(face, junction), _exponent(cell, junction)
    flow = (1 - face**2) / (edges[1] - edges[0]) ** 2
    diagonal = np.zeros(400)
    diagonal[:-1] += flow * np.exp(w_face - w_cell[:-1])
    diagonal[1:] += flow * np.exp(w_face - w_cell[1:])
    beside = -flow * np.exp(w_face - (w_cell[:-1] + w_cell[1:]) / 2)
    rate = eigh_tridiagonal(diagonal, beside, eigvals_only=True, select="i", select_range=(1, 1))
    return 1 / (junction.rotational_diffusion * float(rate[0]))


def _exponent(m_z: np.ndarray, junction: Junction) -> np.ndarray:
    """w = Δ m_z² + h m_z − Δ − |h|, at most 0, so that exp(w) cannot overflow."""
    Δ, h = junction.barrier, junction.bias
    return Δ * (m_z**2 - 1) + h * m_z - abs(h)


def _integral(m_z: np.ndarray, junction: Junction) -> np.ndarray:
    """∫ exp(w) from −1 to m_z."""
    node, weight = np.polynomial.legendre.leggauss(200)
    half = (m_z[..., None] + 1) / 2
    return np.sum(half * weight * np.exp(_exponent(half * (node + 1) - 1, junction)), axis=-1)
