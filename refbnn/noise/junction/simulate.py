"""Simulated reads of a stochastic magnetic tunnel junction, for users without measurements.

Heat turns the moment m of the free layer (`refbnn.noise.junction.junction`) over all the time, and
every read of the conductance is an independent draw from one law.

Dynamics: the Landau-Lifshitz-Gilbert equation in its explicit form,

    dm/dt = −γ/(1+α²) [ m×(B+b) + α m×(m×(B+b)) ],    B = (B_k m_z + B_bias) ẑ,

with α the Gilbert damping and b a white thermal field, ⟨b_i(t) b_j(t′)⟩ = 2D δ_ij δ(t−t′).

Thermal field: B is −∂E/∂m / (M_s V) with E = −M_s V (½ B_k m_z² + B_bias m_z). The damping term
moves m down the energy with mobility αγ / ((1+α²) M_s V). The noise, which stands in both terms,
has along each of the two tangents of the sphere the strength 2D γ² (1+α²)/(1+α²)²: a diffusion
constant D_r = γ² D/(1+α²). The Boltzmann law is stationary if D_r = k_B T × mobility (Einstein), so

    D = α k_B T / (γ M_s V),    variance of each component of b in a step Δt: 2D/Δt,

without a factor of 1+α², which cancels because b enters the damping term too. (It does appear as
1/(1+α²) where the prefactor γ/(1+α²) itself is called γ, and as 1+α² where b is left out of the
damping term.) Integrated by Heun's rule, which converges to the Stratonovich solution that this
derivation assumes, and brought back to |m| = 1 after each step.

Sources: Brown 1963 (Phys. Rev. 130, 1677) for D; García-Palacios and Lázaro 1998 (Phys. Rev. B 58,
14937) for Heun's rule.

The command

    python -m refbnn.noise.junction.simulate OUT.csv

writes the packaged reads again: 4000 reads of the default junction, in µS with four decimals.
"""

import argparse
import sys
from math import sqrt
from pathlib import Path

import numpy as np
from numba import njit

from refbnn.errors import InputError
from refbnn.files.atomic import written_atomically
from refbnn.noise.junction.junction import DEFAULT, GAMMA, K_B, Junction, correlation_time

N_PACKAGED = 4000
INTERVAL = 6.0  # correlation times between reads: an autocorrelation below exp(−6) = 0.25 %
COARSEST = 20.0  # default steps in one: the bias is then 0.005 in <m_z> and grows fast beyond
EQUILIBRATION = 24.0  # correlation times before the first read: a memory of exp(−24) = 4e-11


def simulate(
    n_reads: int, junction: Junction = DEFAULT, *, seed: int = 0, dt: float | None = None
) -> np.ndarray:
    """Simulate independent reads of one junction.

    n_reads is at least 1; fewer reads are a prefix of more: ``simulate(50)`` is
    ``simulate(4000)[:50]``. The time step dt, s, is `time_step` unless given.

    Returns
    -------
    ndarray
        Shape (n_reads,), conductances in µS within [G_AP, G_P].

    Raises
    ------
    InputError
        If a parameter is out of its range, T is 0, or the barrier Δ + |h| is above 8.

    Notes
    -----
    Reads are six correlation times apart (for the default junction 6 × 4.14 ns), which leaves a
    lag-one autocorrelation of exp(−6) = 0.25 %; measured 0.29 % ± 0.06 %.

    The law depends on the time step only weakly. The table holds simulated minus exact moments of
    the default junction with one standard error; over 4000 reads they scatter by 0.011 and 0.005:

        Δt      reads     ⟨m_z⟩                ⟨m_z²⟩
        80 ps   6000000   −0.0176 ± 0.0003     −0.0151 ± 0.0001
        54 ps   4000000   −0.0050 ± 0.0003     −0.0035 ± 0.0002
        20 ps   4000000   +0.0008 ± 0.0003     +0.0014 ± 0.0002
        2.7 ps  2400000   −0.0000 ± 0.0004     +0.0004 ± 0.0002    (`time_step`)

    The reads are the same on every machine with the same mathematics library. Elsewhere they are
    other draws from the same law: the tail of the normal generator calls log1p, and the motion is
    chaotic, so that a difference in the last bit grows into another path.
    """
    n_reads, seed = _whole("n_reads", n_reads, 1), _whole("seed", seed, 0)
    dt, tau = _step(junction, dt), correlation_time(junction)
    n_between, n_before = round(INTERVAL * tau / dt), round(EQUILIBRATION * tau / dt)
    m = np.array([0.0, 0.0, 1.0])
    rng = np.random.default_rng(seed)
    m_z = np.empty(n_reads)
    _read(m, m_z, n_before, n_between, *_per_step(junction, dt), rng)
    G_P, G_AP = junction.G_P, junction.G_AP
    return (G_P + G_AP) / 2 + (G_P - G_AP) / 2 * m_z


def time_step(junction: Junction = DEFAULT) -> float:
    """Time step, s, in which neither the field nor heat turns m by more than 0.05 rad.

    The field turns m by at most γ (B_k+|B_bias|) Δt/√(1+α²), heat by 2√(D_r Δt) (root mean square).
    InputError if T, B_k and B_bias are 0, so that nothing moves m.
    """
    turn = 0.05
    field = GAMMA * (junction.B_k + abs(junction.B_bias)) / sqrt(1 + junction.alpha**2)
    rate = max(field / turn, 4 * junction.rotational_diffusion / turn**2)
    if rate == 0:
        raise InputError("junction T, B_k, B_bias: all 0; expected one above 0, to move m")
    return 1 / rate


def _whole(name: str, number: int, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise InputError(f"{name}: {number!r}; expected a whole number of at least {least}")
    return int(number)


def _step(junction: Junction, dt: float | None) -> float:
    if dt is None:
        return time_step(junction)
    longest = COARSEST * time_step(junction)
    if not (isinstance(dt, int | float | np.number) and 0 < dt <= longest):
        raise InputError(f"dt: {dt!r}; expected a time above 0 and at most {longest:.3g} s")
    return float(dt)


def _per_step(junction: Junction, dt: float) -> tuple[float, float, float, float]:
    """Angles m turns in one step: per m_z by B_k, by B_bias, by heat (deviation); and α."""
    angle = GAMMA * dt / (1 + junction.alpha**2)
    D = junction.alpha * K_B * junction.T / (GAMMA * junction.moment)
    return angle * junction.B_k, angle * junction.B_bias, angle * sqrt(2 * D / dt), junction.alpha


@njit(cache=True)
def _torque(x, y, z, bx, by, bz, alpha):
    """−[m×b + α m×(m×b)], b in angle per step."""
    cx, cy, cz = y * bz - z * by, z * bx - x * bz, x * by - y * bx
    return (
        -cx - alpha * (y * cz - z * cy),
        -cy - alpha * (z * cx - x * cz),
        -cz - alpha * (x * cy - y * cx),
    )


@njit(cache=True)
def _advance(m, n_steps, k, b, s, alpha, rng):
    """Take n Heun steps in place: the mean of the slopes at the start and end, of one noise."""
    x, y, z = m[0], m[1], m[2]
    for _ in range(n_steps):
        bx, by, bz = s * rng.standard_normal(), s * rng.standard_normal(), s * rng.standard_normal()
        bz += b
        ux, uy, uz = _torque(x, y, z, bx, by, bz + k * z, alpha)
        vx, vy, vz = _torque(x + ux, y + uy, z + uz, bx, by, bz + k * (z + uz), alpha)
        x, y, z = x + (ux + vx) / 2, y + (uy + vy) / 2, z + (uz + vz) / 2
        length = sqrt(x * x + y * y + z * z)
        x, y, z = x / length, y / length, z / length
    m[0], m[1], m[2] = x, y, z


@njit(cache=True)
def _read(m, m_z, n_before, n_between, k, b, s, alpha, rng):
    _advance(m, n_before, k, b, s, alpha, rng)
    for i in range(len(m_z)):
        _advance(m, n_between, k, b, s, alpha, rng)
        m_z[i] = m[2]


def main(argv: list[str] | None = None) -> int:
    """Run the command line above; 0 done, 2 the file cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m refbnn.noise.junction.simulate",
        description="Write the packaged reads again.",
    )
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    out = parser.parse_args(argv).out
    rows = [f"{i},{G:.4f}\n" for i, G in enumerate(simulate(N_PACKAGED))]
    try:
        with written_atomically(out) as path:
            path.write_text("read,conductance_uS\n" + "".join(rows), newline="\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
