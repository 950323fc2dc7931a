"""A compiled network: called like the reference, with the same checks of inputs and results.

The compiled function checks its input and results, and leaves one word, the status: a pass over an
array takes a fraction of a microsecond there, but several from Python, as long as a small network.
The pass finds the bits of the largest number, without its sign: float32 numbers order as their bits
do, and infinity, whose bits are 7F800000, is above all finite ones and below every NaN. In
variances the sign stays: negative numbers other than −0 are then above infinity.

A number that overflows inside of the network reaches the results: sums make infinity or NaN of it,
and layers with limits, which would make a number of it again, make NaN
(`kernels.arithmetic.polynomials.finite`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import ArrayLike
from tvm import te, tirx

from kernels.devices import Board
from kernels.devices.instructions import InstructionCount
from kernels.program import kernel as kernels
from kernels.program.kernel import Kernel
from kernels.program.locks import Once
from kernels.program.program import Layout, Plain, Program, Rows, Step
from refbnn.errors import InputError
from refbnn.layers.moments import MEAN_NOT_FINITE, NO_VARIANCE, JointMoments, Moments
from refbnn.network.input_range import Range, limits, warn_if_far
from refbnn.numerics.arrays import real_array
from refbnn.prediction.predict import is_regression, require_classifier
from refbnn.prediction.result import Prediction, class_joint, class_logits
from refbnn.prediction.softmax import by_quadrature, by_table

_SINGLE = np.dtype(np.float32)
_INFINITY_BITS = 0x7F800000
NOT_FINITE = "x holds NaN, infinity or a number too large for float32; expected finite numbers"
_INSIDE = " (a number of the network is too large for float32: make inputs or weights smaller)"
# Tensors of mean, of variance or covariance where there is one, and number of outputs, to
# probabilities (batch, classes padded) and statistics (4, batch): mean entropy, entropy, mutual
# information, and 1 for a row that the rule does not take.
Rule = Callable[[Program, te.Tensor, te.Tensor | None, int], tuple[te.Tensor, te.Tensor]]
_FAR = 4  # status of an x that may be far outside the range trained on
_MESSAGES = (NOT_FINITE, MEAN_NOT_FINITE + _INSIDE, NO_VARIANCE + _INSIDE)  # of status 1, 2, 3


@dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """A network compiled for one batch size by `compile_network`: `net.propagate(x)` in float32.

    It may be called from several threads: all calls share one memory, and a lock lets one at a time
    compute. Threads that shall compute at once need a copy each (`copy.deepcopy`). Pickling and
    copying compile again, with the weights of the network at the time it was compiled.

    Parameters
    ----------
    kernel : Kernel
        Takes x; gives mean and variance, or the mean alone where the variance is 0.
    status : ndarray, (1, 1)
        View of the word that each run leaves: 0; 1, 2, 3 for a fault of x, mean or variance; or 4
        where x holds numbers that may draw a warning.
    again : callable without arguments, or None
        Compiles the network again, for pickles and copies.
    tuned, untuned : tuples of str
        With the schedule "tuned", the workloads that use a record of tuning, and those that have
        decisions but no record and are scheduled by hand: `refbnn tune` finds records of the method
        "pfp" alone. Empty for other schedules.
    trained : (float, float), optional
        Range of the inputs that the network was trained on.
    likelihood : str, optional
        Likelihood that the network was trained with: `predict` is for classifiers.
    predicting : callable without arguments, optional
        Compiles the function that `predict` calls, once, and gives its kernel and status.

    Examples
    --------
    >>> import numpy as np
    >>> from refbnn import Network
    >>> from refbnn.layers import Dense, ReLU
    >>> from kernels import compile_network
    >>> fast = compile_network(Network([Dense(4, 8), ReLU(), Dense(8, 3)], seed=0), batch_size=2)
    >>> fast(np.ones((2, 4))).mean.shape
    (2, 3)
    """

    kernel: Kernel
    status: np.ndarray = field(repr=False)
    again: Callable[[], CompiledNetwork] | None = field(default=None, repr=False)
    tuned: tuple[str, ...] = field(default=(), repr=False)
    untuned: tuple[str, ...] = field(default=(), repr=False)
    trained: Range | None = None
    likelihood: str | None = None
    predicting: Callable[[], tuple[Kernel, np.ndarray]] | None = field(default=None, repr=False)

    def __call__(self, x: ArrayLike) -> Any:  # Moments or JointMoments: the caller knows which
        """Moments of the output for known inputs.

        Parameters
        ----------
        x : array_like, (batch_size, *input_shape), of real numbers
            Converted to float32.

        Returns
        -------
        Moments, or JointMoments by the method "linearised"
            Fresh float32 arrays, (batch_size, *output shape); of a covariance (batch_size, K, K).

        Raises
        ------
        InputError
            If x has another shape or type, or holds NaN, infinity or a number too large for
            float32; or if a result, or a number inside of the network, is too large for float32.

        Warns
        -----
        InputRangeWarning
            If a number of x is larger, without its sign, than all that draw no warning
            (`refbnn.network.input_range`).
        """
        lock, run, view, shape, mean, var, moments = self._parts
        lock.acquire()
        try:
            if type(x) is np.ndarray and x.dtype is _SINGLE and x.shape == shape:
                view[...] = x
            else:
                put(x, view)
            run()
            if status := self.status.item():
                self._check(status, view)
            return moments(mean.copy(), np.zeros_like(mean) if var is None else var.copy())
        finally:
            lock.release()

    @cached_property
    def _parts(self) -> tuple:
        """Parts of a call, found once: looking them up takes as long as a small layer."""
        kernel = self.kernel
        mean, *rest = kernel.outputs
        var = rest[0] if rest else None
        joint = var is not None and var.ndim > mean.ndim
        moments = JointMoments.unchecked if joint else Moments.unchecked
        return kernel.lock, kernel.run, *kernel.inputs, kernel.inputs[0].shape, mean, var, moments

    def __reduce__(self) -> tuple[Callable, tuple]:
        """Compile again where it is unpickled or copied: machine code is of this process."""
        if self.again is None:
            raise TypeError(
                "a compiled program can be neither pickled nor copied; compile it again"
            )
        return self.again, ()

    def predict(self, x: ArrayLike) -> Prediction:
        """Predict classes with their uncertainty, as `refbnn.predict` does; errors as in a call.

        One output is the logit of the second of two classes. The first call compiles a second
        function, which finds the statistics too and shares the weights with the first. Rows with
        logits of standard deviations that its rule does not take (`kernels.prediction.quadrature`)
        go to the reference's rule.

        Raises
        ------
        InputError
            Also if the outputs are no row of logits (batch, outputs), or the network was trained on
            targets.

        Examples
        --------
        >>> import numpy as np
        >>> from refbnn import Network
        >>> from refbnn.layers import Dense
        >>> from kernels import compile_network
        >>> fast = compile_network(Network([Dense(4, 3)], seed=0), batch_size=2)
        >>> fast.predict(np.ones((2, 4))).probabilities.shape
        (2, 3)
        """
        require_classifier(self.likelihood)
        x = numbers(x, self.kernel.inputs[0].shape)
        kernel, status = self._predictor
        with kernel.lock:
            put(x, kernel.inputs[0])
            kernel.run()
            if code := status.item():
                self._check(code, kernel.inputs[0])
            *moments, p, found, unsuited = kernel.outputs
            mean, p, found = moments[0].copy(), p.copy(), found.copy()
            second = moments[1].copy() if len(moments) > 1 else np.zeros_like(mean)
            unsuited = unsuited.item()
        if unsuited:
            _by_reference(mean, second, p, found)
        var = second if second.ndim == 2 else np.einsum("bcc->bc", second)
        logits = Moments.unchecked(mean, var)
        if mean.shape[1] == 1:
            logits = class_logits(logits)
        return Prediction.computed(logits, p, found[0], found[1], found[2])

    @property
    def predicts(self) -> bool:
        """Whether the network is a classifier with one row of outputs, so that it can `predict`."""
        return self.predicting is not None and not is_regression(self.likelihood)

    @cached_property
    def _predictor(self) -> tuple[Kernel, np.ndarray]:
        """Kernel that finds the statistics too, and its status."""
        shape = self.kernel.outputs[0].shape
        if len(shape) != 2 or self.predicting is None:
            raise InputError(
                f"predict: outputs have shape {shape}; expected logits (batch, outputs)"
            )
        return self.predicting()

    def beside(self) -> CompiledNetwork:
        """The same code and weights with memory of its own, to compute at the same time."""
        n_moments = len(self.kernel.outputs)

        def predicting() -> tuple[Kernel, np.ndarray]:
            return _status_apart(self._predictor[0].again(), n_moments)

        kernel, status = _status_apart(self.kernel.again(), n_moments)
        return CompiledNetwork(
            kernel,
            status,
            trained=self.trained,
            likelihood=self.likelihood,
            predicting=None if self.predicting is None else Once(predicting),
        )

    def _check(self, status: int, x: np.ndarray) -> None:
        """Warn or raise by a status that is not 0."""
        if status == _FAR:
            warn_if_far(x, self.trained)
        else:
            raise InputError(_MESSAGES[status - 1])

    def instruction_count(self, x: ArrayLike) -> InstructionCount:
        """Count the instructions executed for these inputs: `.total`, and by class.

        Raises
        ------
        InputError
            As in a call, and if the device cannot count: only "emulated" can.
        """
        self(x)  # for its checks
        return self.kernel.instruction_count(x)


def put(x: ArrayLike, view: np.ndarray) -> None:
    """Copy an input into a kernel's memory, of float32: larger numbers become infinite.

    Raises
    ------
    InputError
        As `numbers` raises.
    """
    x = numbers(x, view.shape)
    if x.dtype is _SINGLE:
        view[...] = x
    else:
        with np.errstate(over="ignore"):  # costs as much as a check
            view[...] = x


def numbers(x: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The array of real numbers that x is.

    Raises
    ------
    InputError
        If x is no array of real numbers, or not of this shape.
    """
    if type(x) is not np.ndarray or x.dtype.kind not in "fiu":
        x = real_array(x, "x")
    if x.shape != shape:
        raise InputError(f"x has shape {x.shape}; expected {shape}")
    return x


def compiled(
    program: Program,
    schedule: str,
    records: str | Path | None,
    device: str | Board,
    trained: Range | None = None,
    again: Callable[[], CompiledNetwork] | None = None,
    likelihood: str | None = None,
    rule: Rule | None = None,
) -> CompiledNetwork:
    """Compile the program of a network; arguments and errors as in `compile_network`.

    `trained` is the range of the inputs that the network was trained on; `again` and `likelihood`
    are as in `CompiledNetwork`; `rule` finds the statistics of classes.
    """
    most = _most_bits(trained)
    bare = program.copy()
    add_checks(program, most)
    kernel = kernels.build(program, schedule, records, device)
    kernel, status = _status_apart(kernel, len(kernel.outputs) - 1)
    predicting = None
    if rule is not None and len(bare.outputs[0][0].shape) == 1:
        # The weights in the kernel's memory stand for those of the program, which can go.
        bare.weights = [
            (tensor, values)
            for (tensor, _), values in zip(bare.weights, kernel.weights, strict=True)
        ]
        predicting = Once(partial(_predicting, bare, rule, most, schedule, records, device))
    whole = CompiledNetwork(
        kernel, status, again, trained=trained, likelihood=likelihood, predicting=predicting
    )
    if schedule != "tuned":
        return whole
    found = kernels.tuned(program, records)
    return replace(whole, tuned=tuple(sorted(found)), untuned=untuned(program, records))


def _predicting(
    program: Program,
    rule: Rule,
    most: int,
    schedule: str,
    records: str | Path | None,
    device: str | Board,
) -> tuple[Kernel, np.ndarray]:
    """Compile a network with the statistics of its classes: a kernel and its status."""
    program = program.copy()  # as it is for another time, if this one is interrupted
    (layout, mean), *var = program.outputs
    (n_outputs,) = layout.shape
    p, found = rule(program, mean, var[0][1] if var else None, n_outputs)
    n_moments = len(program.outputs)
    add_checks(program, most)
    program.outputs.append((Rows(max(2, n_outputs), program.target.lanes), p))
    program.outputs.append((Plain((4, program.batch)), found))
    row = te.reduce_axis((0, program.batch))
    unsuited = te.compute((1, 1), lambda *_: te.max(found[3, row], axis=row), name="unsuited")
    program.outputs.append((Plain((1, 1)), unsuited))
    kernel = kernels.build(program, schedule, records, device)
    return _status_apart(kernel, n_moments)


def _status_apart(kernel: Kernel, place: int) -> tuple[Kernel, np.ndarray]:
    """Take the status, the output at this place, from a kernel's outputs."""
    outputs = list(kernel.outputs)
    status = outputs.pop(place)
    return replace(kernel, outputs=tuple(outputs)), status


def _by_reference(mean: np.ndarray, second: np.ndarray, p: np.ndarray, found: np.ndarray) -> None:
    """Replace the statistics of rows that the rule did not take; `second` as the network gives it.

    Where that is no variance but a covariance, the reference's rule is another one.
    """
    rows = np.flatnonzero(found[3])
    m, v = mean[rows].astype(float), second[rows].astype(float)
    if v.ndim == 2:
        exact = by_quadrature(class_logits(Moments(m, v)))
    else:
        exact = by_table(class_joint(JointMoments(m, v)))
    p[rows] = exact.probabilities
    found[:3, rows] = exact.aleatoric, exact.entropy, exact.mutual_information


def _most_bits(trained: Range | None) -> int:
    """Bits of the largest |x| that draws no warning for inputs trained on that range."""
    if trained is None:
        return _INFINITY_BITS
    with np.errstate(over="ignore"):
        return int(np.float32(np.abs(limits(trained)).max()).view(np.uint32))


def untuned(program: Program, records: str | Path | None) -> tuple[str, ...]:
    """Workloads of a program that have decisions, but no record of them in this folder."""
    searched = {step.workload for step in program.steps if step.space}
    return tuple(sorted(searched - kernels.tuned(program, records).keys()))


def add_checks(program: Program, most: int = _INFINITY_BITS) -> None:
    """Add the status to a network's outputs: 0, or 1, 2, 3 for a fault of x, mean or variance.

    It is 4 where there is no fault, but x holds a number above that of the bits `most`.
    """
    operands, lanes = [*program.inputs, *program.outputs], program.target.lanes
    by_lane = [
        # A covariance, with an axis more than the mean, may be negative.
        _largest(
            f"largest_{index}",
            layout,
            tensor,
            lanes,
            signed=index == 2 and len(tensor.shape) == len(operands[1][1].shape),
        )
        for index, (layout, tensor) in enumerate(operands)
    ]

    def largest(bits):
        lane = te.reduce_axis((0, lanes))
        name = f"{bits.op.name}_of_all"
        return te.compute((1, 1), lambda *_: te.max(bits[lane], axis=lane), name=name)

    each = [largest(bits) for bits in by_lane]

    def status(*_):
        far = each[0][0, 0] > tirx.const(most, "uint32")
        code = tirx.Select(far, tirx.const(_FAR, "int32"), tirx.const(0, "int32"))
        for index, bits in reversed(list(enumerate(each, start=1))):
            bad = bits[0, 0] >= tirx.const(_INFINITY_BITS, "uint32")
            code = tirx.Select(bad, tirx.const(index, "int32"), code)
        return code

    program.outputs.append((Rows(1, 1), te.compute((1, 1), status, name="status")))
    blocks = [bits.op.name for bits in by_lane]
    program.steps.append(Step("checks", {}, {}, partial(_schedule_checks, blocks=blocks)))


def _largest(name: str, layout: Layout, tensor: te.Tensor, lanes: int, signed: bool) -> te.Tensor:
    """Bits of the largest entry of each lane, padding left out, as the top of the file says."""
    *outer, width = layout.view(np.broadcast_to(np.float32(0.0), _shape(tensor))).shape
    axes = [te.reduce_axis((0, n)) for n in (*outer, -(-width // lanes))]
    zero = tirx.const(0, "uint32")

    def of_lane(lane):
        column = axes[-1] * lanes + lane
        entry = tensor(*axes[:-1], column)
        bits = tirx.reinterpret("uint32", entry)
        if signed:
            bits = tirx.Select(entry == tirx.const(0.0, "float32"), zero, bits)
        else:
            bits = tirx.bitwise_and(bits, tirx.const(0x7FFFFFFF, "uint32"))
        if width % lanes:
            bits = tirx.Select(column < width, bits, zero)
        return te.max(bits, axis=axes)

    return te.compute((lanes,), of_lane, name=name)


def _shape(tensor: te.Tensor) -> list[int]:
    return [int(n) for n in tensor.shape]


def _schedule_checks(sch: tvm.s_tir.Schedule, decisions, blocks: list[str]) -> None:
    """Say how the largest are found: whole vectors at a time, in a register."""
    for name in blocks:
        block = sch.get_sblock(name)
        lane, *axes = sch.get_loops(block)
        sch.reorder(*axes, lane)
        sch.vectorize(lane)
        sch.decompose_reduction(block, axes[0])
