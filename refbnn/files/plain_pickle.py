"""Read the pickle inside a file of torch.save by a machine that cannot call anything.

A pickle is a program for a stack machine (Python's pickletools.py documents every opcode), and
Python's own machine calls whatever the program names. This one knows the opcodes that torch.save
writes by default (protocol 2) and three names to call, whose meaning is defined in `_reduce`; an
error names any other opcode or name. `torch.load(weights_only=True)` works the same way
(torch/_weights_only_unpickler.py) with more names.

    REDUCE   collections.OrderedDict()              an empty dict
             torch._utils._rebuild_tensor_v2(...)   an array, by the caller's function
             torch._utils._rebuild_parameter(a, …)  the array a
    NEWOBJ   a class of torch.distributions.constraints or pyro.distributions.constraints:
             a `Constraint` that keeps the class's name, and by BUILD its fields

The result consists of None, bool, int, float, str, tuple, list, dict, arrays and Constraint.
Neither this module nor its readers recurse into it, and keys of dicts are text or integers, so
depth and cycles are harmless; a value referenced twice is one object.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refbnn.errors import InputError, quoted

LARGEST = 2**22  # bytes; the record of a tensor takes about 100 to 200

_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_DICT = "collections.OrderedDict"
_CONSTRAINTS = ("torch.distributions.constraints.", "pyro.distributions.constraints.")
_MARK = object()
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """A name from the file; it is never imported."""

    full: str


@dataclass
class Constraint:
    """Record of a constraint object: its class's name and its fields."""

    name: str
    fields: dict = field(default_factory=dict)


class _ProgramError(Exception):
    """An error in the program."""


@dataclass(frozen=True)
class Loader:
    """Source of the values outside the pickle."""

    storage: Callable[[Any], Any]  # storage from a persistent id (`BINPERSID`)
    tensor: Callable[[tuple], np.ndarray]  # array from the arguments of `_rebuild_tensor_v2`
    names: frozenset[str]  # more names that the program may mention, in persistent ids


def load(program: bytes, source: str, loader: Loader) -> Any:
    """Run a pickle program and return its value; `source` names the file in errors.

    InputError if it is broken, too long, or uses an opcode or name that is not allowed.
    """
    if len(program) > LARGEST:
        raise InputError(f"{source}: pickle of {len(program)} bytes; expected at most {LARGEST}")
    machine = _Machine(loader)
    place = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools, on odd escapes in names
            for opcode, argument, position in pickletools.genops(program):
                place = position or 0
                if opcode.name == "STOP":
                    break
                machine.do(opcode.name, argument)
        (value,) = machine.stack
    except _ProgramError as error:
        raise InputError(f"{source}: byte {place} of its pickle: {error}") from None
    except InputError:  # from the loader
        raise
    except (ValueError, IndexError, KeyError) as error:
        # Truncated or garbled, an empty stack, or a memo that was never written.
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{source}: broken pickle after byte {place} ({reason}); expected a whole one"
        ) from None
    return value


class _Machine:
    """Stack, memo, and the meaning of each opcode."""

    def __init__(self, loader: Loader):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.loader = loader

    def do(self, opcode: str, argument: Any) -> None:
        """Execute one opcode."""
        push, pop = self.stack.append, self._pop
        match opcode:
            case "PROTO":
                if argument != 2:
                    raise _ProgramError(f"protocol {argument}; expected 2, torch.save's default")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                push(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "MARK":
                push(_VALUES[opcode])
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(pop() for _ in range(_TUPLES[opcode]))[::-1])
            case "TUPLE":
                push(tuple(self._to_mark()))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self._top()
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "APPEND":
                item = pop()
                self._top(list).append(item)
            case "APPENDS":
                items = self._to_mark()
                self._top(list).extend(items)
            case "SETITEM":
                value, key = pop(), pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._to_mark())
            case "GLOBAL":
                push(self._name(argument))
            case "REDUCE":
                arguments, function = pop(), pop()
                push(self._reduce(function, arguments))
            case "NEWOBJ":
                arguments, cls = pop(), pop()
                push(_new(cls, arguments))
            case "BUILD":
                state = pop()
                _build(self._top(), state)
            case "BINPERSID":
                push(self.loader.storage(pop()))
            case _:
                raise _ProgramError(f"opcode {opcode}; expected those of torch.save's protocol 2")

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise _ProgramError("a mark where a value belongs")
        return value

    def _top(self, kind: type = object) -> Any:
        top = self.stack[-1]
        if top is _MARK or not isinstance(top, kind):
            raise _ProgramError(f"found {_kind(top)}; expected a {kind.__name__}")
        return top

    def _to_mark(self) -> list:
        items: list = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _set(self, items: list) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _ProgramError(f"key is {_kind(key)}; expected text or an integer")
            if key in target:
                raise _ProgramError(f"key {quoted(key)} is there twice; expected it once")
            target[key] = value

    def _name(self, argument: str) -> Name:
        # pickletools joins module and name by a space.
        full = ".".join(argument.split(" "))
        known = full in (_TENSOR, _PARAMETER, _DICT) or full in self.loader.names
        if not known and not full.startswith(_CONSTRAINTS):
            raise _ProgramError(
                f"names {quoted(full[:120])}; expected tensors and dicts alone: save a state dict, "
                "torch.save(model.state_dict(), FILE)"
            )
        return Name(full)

    def _reduce(self, function: Any, arguments: Any) -> Any:
        match function, arguments:
            case Name(full=full), () if full == _DICT:
                return {}
            case Name(full=full), tuple() if full == _TENSOR:
                return self.loader.tensor(arguments)
            case Name(full=full), (np.ndarray() as array, _, _) if full == _PARAMETER:
                return array
        called = repr(function.full[:120]) if isinstance(function, Name) else _kind(function)
        raise _ProgramError(
            f"call of {called} with {_kind(arguments)}; expected to rebuild a tensor"
        )


def _new(cls: Any, arguments: Any) -> Constraint:
    is_constraint = isinstance(cls, Name) and cls.full.startswith(_CONSTRAINTS)
    if is_constraint and isinstance(arguments, tuple) and not arguments:
        return Constraint(cls.full.rpartition(".")[2])
    raise _ProgramError(f"object of {_kind(cls)}; expected a constraint without arguments")


def _build(target: Any, state: Any) -> None:
    if not isinstance(state, dict):
        raise _ProgramError(f"fields are {_kind(state)}; expected a dict")
    if isinstance(target, Constraint):
        target.fields = state
    elif not isinstance(target, dict):  # a state dict's `_metadata` is not needed
        raise _ProgramError(f"fields for {_kind(target)}; expected a constraint or a dict")


def _kind(value: Any) -> str:
    return "a mark" if value is _MARK else type(value).__name__
