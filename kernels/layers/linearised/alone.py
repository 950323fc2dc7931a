"""One layer's pass back by itself, as a program that is measured alone.

A layer's backward computes from arrays of the pass forth and from the Jacobian that the layer
behind it hands on. Here all of these are inputs, with the padding that they have in the network.
What the layer adds to the covariance, and the Jacobian that it hands on, are outputs. A layer may
compute nothing: a last dense layer gives its own variances as the diagonal of the covariance, and
its weights as the Jacobian. Its program has no outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

from tvm import te

from kernels.layers.linearised import images
from kernels.layers.linearised.backward import Back, Backward, Jacobian
from kernels.program.program import Activation, Plain, Program


def noted(
    backward: Backward, J: Jacobian, function: Back, name: str, of_images: Sequence[str]
) -> Jacobian | None:
    """Go back through a layer, and note its program among the operators of the network's.

    Parameters
    ----------
    function : partial
        The layer's backward; its arguments hold the tensors of the pass forth.
    name : str
        Name of the operator.
    of_images : sequence of str
        Names of blocks for `kernels.layers.linearised.images.one_by_one`.
    """
    make = partial(_of_layer, backward, J, function, of_images)
    backward.program.operators.append((name, make))
    return function(backward, J)


def covariance(whole: Backward) -> Program:
    """The program that sums up what all layers have added to the covariance."""
    cut = _Cut(whole)
    cut.backward.forms = cut.apart(whole.forms)
    cut.backward.diagonal = cut.apart(whole.diagonal)
    return cut.program(cut.backward.covariance())


def _of_layer(whole: Backward, J: Jacobian, function: Back, of_images: Sequence[str]) -> Program:
    cut = _Cut(whole)
    J_x = cut.apart(function)(cut.backward, cut.apart(J))
    handed_on = [] if J_x is None else [J_x.rows, J_x.gain, J_x.own]
    forms = [form.by_lane for form in cut.backward.forms]
    images.one_by_one(cut.backward.program, of_images)
    return cut.program(*forms, cut.backward.diagonal, *handed_on)


@dataclass(eq=False)
class _Cut:
    """A program whose inputs stand for tensors of another one."""

    whole: Backward
    backward: Backward = field(init=False)
    inputs: dict[te.Tensor, te.Tensor] = field(default_factory=dict)  # by tensor of the whole

    def __post_init__(self):
        of_whole = self.whole.program
        program = Program(of_whole.target, of_whole.batch, of_whole.flush, of_whole.constant_time)
        self.backward = Backward(program, self.whole.n_outputs)

    def apart(self, value: Any) -> Any:
        """The same value, in which inputs stand for all tensors."""
        if isinstance(value, te.Tensor):
            if value not in self.inputs:
                name = f"{value.op.name}_{value.value_index}"
                self.inputs[value] = te.placeholder(value.shape, value.dtype, name)
            return self.inputs[value]
        if isinstance(value, partial):
            keywords = {key: self.apart(part) for key, part in value.keywords.items()}
            return partial(value.func, *map(self.apart, value.args), **keywords)
        if isinstance(value, list):
            return [self.apart(part) for part in value]
        if is_dataclass(value) and not isinstance(value, type):
            value = value.alone if isinstance(value, Activation) else value
            parts = {part.name: getattr(value, part.name) for part in fields(value)}
            changed = {name: self.apart(part) for name, part in parts.items()}
            new = {name: part for name, part in changed.items() if part is not parts[name]}
            return replace(value, **new) if new else value
        return value

    def program(self, *results: te.Tensor | None) -> Program:
        """Finish the program; of the results those are outputs that are computed in it."""
        made = [t for t in results if t is not None and not isinstance(t.op, te.PlaceholderOp)]
        read, waiting = set(), [tensor.op for tensor in made]
        visited = set()
        while waiting:
            op = waiting.pop()
            if op in visited:
                continue
            visited.add(op)
            read.update(op.input_tensors)
            waiting += [tensor.op for tensor in op.input_tensors]
        program = self.backward.program
        for source, stand_in in self.inputs.items():
            if stand_in in read:
                program.inputs.append((_plain(source), stand_in))
                program.sources.append(source)
        for tensor in made:
            program.give_arrays(_plain(tensor), tensor)
        return program


def _plain(tensor: te.Tensor) -> Plain:
    return Plain(tuple(int(n) for n in tensor.shape))
