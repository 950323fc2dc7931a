"""The pass back of linearised propagation: from the outputs to the first layer with weights.

Formulas
--------
The formulas of `refbnn.layers.linearisation`: with J = ∂ℓ/∂y of the K outputs ℓ by the outputs y of
a layer, own part e and gain matrix G,

    C += J Cov[e] Jᵀ,      J ← J G.

Elementwise layers only change a diagonal. So J is kept as R diag(g), with a variance w for each
entry that is still to be added, C += R diag(w) Rᵀ:

    elementwise, gain γ and own variance r          w ← w + g² r,  g ← g γ
    dense, own variance d = Σ σ²(m² + v) + σ_b²     w ← w + g² d;  add;  R ← R diag(g) µ

A dense layer and the function behind it thus take one quadratic form, and all quadratic forms of a
network one sum over lanes. R is I at the outputs, and µ of the last dense layer before it, for all
examples the same (K, n); from there on it has a row for each example and output, (B·K, n).

R diag(w) Rᵀ is symmetric: only the pairs (k, k + c mod K), 0 ≤ c ≤ K/2, are summed.

How a layer's backward is added
-------------------------------
`kernels.layers.linearised.layer.add_layer` applies a layer forward and puts a function on the tape,
`back(backward, J) -> J of the layer's inputs`, or None where these are known. It is a closure or
`functools.partial` over whatever the forward pass has computed: activations of inputs and outputs,
`own` and `gain` of an activation, probabilities of a maximum. It calls, in this order, what it
needs of

    J = backward.through(name, J, gain, own)    elementwise part, tensors (B, *memory)
    backward.settle(name, J)                    adds R diag(w) Rᵀ to C
    backward.add(name, A, R)                    adds any other A Rᵀ that is symmetric
    backward.scaled(name, J)                    R diag(g) as a tensor (B·K, *memory)

and returns `Jacobian(x.layout, R)` with R of shape (B·K, *memory of one x), rows of one example
after the other. R must be 0 in the padding of its layout, or w must be. Steps are named after
the tensor they schedule, workloads tell the sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod

import tvm
from tvm import te, tirx

from kernels.arithmetic.polynomials import f32
from kernels.layers.linearised.symmetric import Symmetric, joined, pairs
from kernels.program import vectors
from kernels.program.program import Activation, Layout, Program, Step
from refbnn.errors import InputError

_MOST = 2**29  # numbers of one array, 2 GB


@dataclass(frozen=True, eq=False)
class Jacobian:
    """Jacobian R diag(g) of the outputs by an activation, and variances w to be added.

    Parameters
    ----------
    layout : Layout
        Layout of the activation.
    rows : tensor (B·K, *memory), (K, *memory) for all examples the same, or None
        R; None is the identity.
    gain : tensor (B, *memory), optional
        g; None is 1.
    own : tensor (B, *memory), optional
        w; None is 0.
    """

    layout: Layout
    rows: te.Tensor | None = None
    gain: te.Tensor | None = None
    own: te.Tensor | None = None


Back = Callable[["Backward", Jacobian], Jacobian | None]


@dataclass(eq=False)
class Backward:
    """One pass back, which collects the covariance of the outputs.

    Parameters
    ----------
    program : Program
    n_outputs : int
        K.
    forms : list of Symmetric
        Sums that add up to the covariance.
    diagonal : tensor (B, K padded), optional
        What the covariance has on its diagonal besides.
    """

    program: Program
    n_outputs: int
    forms: list[Symmetric] = field(default_factory=list)
    diagonal: te.Tensor | None = None

    def through(
        self,
        name: str,
        J: Jacobian,
        gain: te.Tensor | None = None,
        own: te.Tensor | None = None,
    ) -> Jacobian:
        """Go back through an elementwise part with this gain and own variance, (B, *memory)."""
        w, g = own, gain
        if J.gain is not None:
            before = J.gain
            if own is not None:
                w = self._entries(f"{name}_own", lambda *i: before(*i) * before(*i) * own(*i), J)
            if gain is not None:
                g = self._entries(f"{name}_gain", lambda *i: before(*i) * gain(*i), J)
            else:
                g = before
        if J.own is not None:
            others, mine = J.own, w
            w = others
            if mine is not None:
                w = self._entries(f"{name}_owns", lambda *i: others(*i) + mine(*i), J)
        return Jacobian(J.layout, J.rows, g, w)

    def settle(self, name: str, J: Jacobian) -> None:
        """Add R diag(w) Rᵀ to the covariance."""
        own, rows, k = J.own, J.rows, self.n_outputs
        if own is None:
            return
        if rows is None:
            self.diagonal = own  # once: at the outputs alone R is I
            return
        of = self.row(rows)
        shape = (self.program.batch, k, *J.layout.tensor_shape(1)[1:])
        self._require_moderate(shape)
        A = te.compute(
            shape, lambda b, r, *i: rows(of(b, r), *i) * own(b, *i), name=f"{name}_weighted"
        )
        vectors.add_step(self.program, f"weighted {_words(shape)}", [f"{name}_weighted"])
        form = pairs(self.program, f"{name}_form", A, rows, of, f"{name}_weighted")
        self.forms.append(form)

    def add(self, name: str, A: te.Tensor, rows: te.Tensor) -> None:
        """Add A Rᵀ, which is symmetric, to the covariance.

        Parameters
        ----------
        name : str
            Starts the names of the blocks.
        A : tensor (B, K, *memory)
        rows : tensor (B·K, *memory), or (K, *memory) for all examples the same
            R; A or R is 0 in the padding.
        """
        self.forms.append(pairs(self.program, f"{name}_form", A, rows, self.row(rows)))

    def scaled(self, name: str, J: Jacobian) -> te.Tensor:
        """R diag(g) for each example, (B·K, *memory)."""
        rows, gain, k = J.rows, J.gain, self.n_outputs
        shape = (self.program.batch * k, *J.layout.tensor_shape(1)[1:])
        if rows is not None and gain is None and int(rows.shape[0]) == shape[0]:
            return rows
        self._require_moderate(shape)

        def entry(r, *i):
            if rows is None:
                value = tirx.Select(i[0] == r % k, f32(1.0), f32(0.0))
            else:
                value = rows(r if int(rows.shape[0]) == shape[0] else r % k, *i)
            return value if gain is None else value * gain(r // k, *i)

        block = f"{name}_scaled"
        result = te.compute(shape, entry, name=block)
        transform = partial(_by_examples, block=block, k=k, lanes=self.program.target.lanes)
        self.program.steps.append(Step(f"scaled {_words(shape)}", {}, {}, transform))
        return result

    def sum(self, name: str, one: te.Tensor, other: te.Tensor) -> te.Tensor:
        """Add two arrays R of the same shape."""
        result = te.compute(one.shape, lambda *i: one(*i) + other(*i), name=name)
        vectors.add_step(self.program, f"sum {_words(one.shape)}", [name])
        return result

    def covariance(self) -> te.Tensor:
        """The covariance of the outputs, (B, K, K padded)."""
        k, lanes = self.n_outputs, self.program.target.lanes
        self._require_moderate((self.program.batch, k, -(-k // lanes) * lanes))
        return joined(self.program, k, self.forms, self.diagonal)

    def row(self, rows: te.Tensor) -> Callable:
        """A function (b, k) -> index of R's row of example b and output k."""
        k = self.n_outputs
        if int(rows.shape[0]) == k and self.program.batch > 1:
            return lambda b, r: r
        return lambda b, r: b * k + r

    def _entries(self, name: str, formula: Callable, J: Jacobian) -> te.Tensor:
        shape = J.layout.tensor_shape(self.program.batch)
        result = te.compute(shape, formula, name=name)
        vectors.add_step(self.program, f"entries {_words(shape)}", [name])
        return result

    def _require_moderate(self, shape: tuple[int, ...]) -> None:
        if prod(shape) > _MOST:
            raise InputError(
                f"linearised: {self.n_outputs} outputs and batches of {self.program.batch} need "
                f"an array of {prod(shape)} numbers; expected at most {_MOST}: choose a smaller "
                "batch, or the method 'pfp'"
            )


def back(program: Program, y: Activation, tape: list[Back]) -> Backward:
    """Go back from outputs y, in rows, along the tape."""
    (n_outputs,) = y.layout.shape
    backward = Backward(program, n_outputs)
    J: Jacobian | None = Jacobian(y.layout)
    if y.var is not None:
        J = go_back(backward, J, tape)
    return backward


def go_back(backward: Backward, J: Jacobian | None, tape: list[Back]) -> Jacobian | None:
    """Go back along the tape, as far as activations are random; None where they are known."""
    for function in reversed(tape):
        if J is None:
            return None
        J = function(backward, J)
    return J


def _by_examples(sch: tvm.s_tir.Schedule, decisions, block: str, k: int, lanes: int) -> None:
    """Whole vectors, rows of one example after the other: no index is divided."""
    loops = sch.get_loops(sch.get_sblock(block))
    sch.split(loops[0], [None, k])
    vectors.schedule(sch, decisions, [block], lanes)


def _words(shape) -> str:
    return "x".join(str(int(n)) for n in shape)
