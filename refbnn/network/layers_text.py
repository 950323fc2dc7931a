"""Layers as a short text, in the order in which an input passes through them.

    conv 1 6 5 pad 2, batch_norm 6, relu, maxpool 2, flatten, dense 1176 84, tanh, dense 84 10

Commas or ends of lines stand between layers. Numbers follow a layer's word:

    conv IN OUT K [stride S] [pad P] [groups G]    channels in and out, kernel size
    dense IN OUT                                   features in and out
    batch_norm C [eps E]                           channels; 1e-5 is the default of ε, as in PyTorch
    maxpool K [stride S] [pad P] [method M]        the stride is K where none is given; M is window,
                                                   the default, exact or tree, as in
                                                   `refbnn.layers.MaxPool2d`
    avgpool K [stride S] [pad P]                   zeros of the padding count in the average
    flatten
    relu, tanh, leaky_relu [SLOPE], elu [ALPHA]    and every other activation of `refbnn.layers`
    residual(LAYER, LAYER, ...)                    their output is added to their input

K, S and P are one number, or two for height and width: 5x3. Capitals and underscores do not matter.

The running statistics of batch normalisation are numbers, which a text does not hold:
`NormFromFile` marks where they belong, and `refbnn.network.interchange.assembly` fills them in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, cast

from refbnn.errors import InputError, suggestion
from refbnn.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    MaxPool2d,
    Residual,
)
from refbnn.layers.activations import ACTIVATIONS
from refbnn.layers.layer import Shape

_LONGEST = 1_000_000  # letters of a text
_MOST = 10**9  # of a size
_DEEPEST = 20  # residual blocks in residual blocks, as in a file of a network


@dataclass(frozen=True)
class NormFromFile:
    """Place of a batch normalisation whose statistics a file holds.

    Examples
    --------
    >>> from refbnn.network.layers_text import parse
    >>> parse("batch_norm 6 eps 0.001")
    [NormFromFile(channels=6, eps=0.001)]
    """

    channels: int
    eps: float = 1e-5

    def parameter_shapes(self) -> dict[str, Shape]:
        """No weights."""
        return {}


StatedLayer = Layer | NormFromFile


@dataclass(frozen=True)
class _Word:
    """A layer's word: what it makes, the numbers behind it, and its options."""

    make: Callable[..., Any]
    numbers: str = ""
    options: tuple[tuple[str, str], ...] = ()  # word and argument
    optional: bool = False  # the numbers may be left out
    read: Callable[[str], Any] = int

    def form(self, word: str) -> str:
        """The layer as one writes it."""
        numbers = f" [{self.numbers}]" if self.optional else f" {self.numbers}"
        options = "".join(f" [{option} {option[0].upper()}]" for option, _ in self.options)
        return f"{word}{numbers if self.numbers else ''}{options}"


def _size(text: str) -> int | tuple[int, ...]:
    """One number, or two as in 5x3."""
    numbers = tuple(_integer(part) for part in text.lower().replace("×", "x").split("x"))
    if len(numbers) > 2:
        raise ValueError
    return numbers[0] if len(numbers) == 1 else numbers


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12) or int(text) > _MOST:
        raise ValueError
    return int(text)


def _activation_word(layer: type) -> _Word:
    own = [field for field in fields(layer) if field.init]
    numbers = " ".join(field.name.upper() for field in own)
    optional = all(field.default is not MISSING for field in own)
    return _Word(layer, numbers, optional=optional, read=float)


_WINDOW = (("stride", "stride"), ("pad", "padding"))
WORDS: dict[str, _Word] = {
    "conv": _Word(Conv2d, "IN OUT K", (*_WINDOW, ("groups", "groups")), read=_size),
    "dense": _Word(Dense, "IN OUT", read=_integer),
    "batch_norm": _Word(NormFromFile, "C", (("eps", "eps"),), read=_integer),
    "maxpool": _Word(MaxPool2d, "K", (*_WINDOW, ("method", "method")), read=_size),
    "avgpool": _Word(AvgPool2d, "K", _WINDOW, read=_size),
    "flatten": _Word(Flatten),
    **{
        layer.__module__.rpartition(".")[2]: _activation_word(layer)
        for layer in ACTIVATIONS.values()
    },
}
_OPTIONS: dict[str, Callable[[str], Any]] = {"eps": float, "method": str.lower}  # others: sizes
_RESIDUAL = "residual(LAYER, ...)"
_LEAVE_OUT = {  # words of other tools, and what to do
    **dict.fromkeys(
        (
            *("convtranspose", "convtranspose2d", "conv1d", "conv3d", "upsample"),
            *("layernorm", "groupnorm", "instancenorm2d"),
            *("lstm", "gru", "embedding", "attention"),
        ),
        "there is no such layer here",
    ),
    "adaptiveavgpool2d": "write 'avgpool K' with K that gives the same size",
    "softmax": "leave it out: predictions apply it to the outputs",
    "logsoftmax": "leave it out: predictions apply the softmax to the outputs",
    "dropout": "leave it out: it does nothing after training",
    "identity": "leave it out",
    "normalise": "state it with --normalise",
    "normalize": "state it with --normalise",
    "linear": "write 'dense IN OUT'",
    "conv2d": "write 'conv IN OUT K'",
    "batchnorm2d": "write 'batch_norm C'",
    "batchnorm1d": "write 'batch_norm C'",
    "maxpool2d": "write 'maxpool K'",
    "avgpool2d": "write 'avgpool K'",
}


def parse(text: str) -> list[StatedLayer]:
    """Layers of a text; its form stands at the top of the file.

    Raises
    ------
    InputError
        If an item is no layer, or its numbers do not fit; the message names the item.

    Examples
    --------
    >>> from refbnn.network.layers_text import parse
    >>> parse("conv 1 6 5 pad 2, relu, maxpool 2, flatten, dense 1176 10")
    [Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2), Flatten(), Dense(1176, 10)]
    """
    if len(text) > _LONGEST:
        raise InputError(f"layers: a text of {len(text)} letters; expected at most {_LONGEST}")
    return _parsed(text, 0)


def as_text(layers: Sequence[StatedLayer]) -> str:
    """Text from which `parse` makes the layers again.

    `BatchNorm2d` and `Normalise` hold numbers of their own, which no text holds: they are shown as
    Python shows them, and `parse` refuses that.

    Examples
    --------
    >>> from refbnn.layers import Dense, LeakyReLU
    >>> from refbnn.network.layers_text import as_text
    >>> as_text([Dense(4, 8), LeakyReLU(0.2), Dense(8, 3)])
    'dense 4 8, leaky_relu 0.2, dense 8 3'
    """
    return ", ".join(_item_text(layer) for layer in layers)


def _item_text(layer: StatedLayer) -> str:
    if isinstance(layer, Residual):
        return f"residual({as_text(layer.layers)})"
    name = next((name for name, word in WORDS.items() if word.make is type(layer)), None)
    if name is None:  # holds numbers of its own, which no text holds
        return repr(layer)
    options = {argument: option for option, argument in WORDS[name].options}
    same = {"stride": layer.kernel_size} if isinstance(layer, MaxPool2d | AvgPool2d) else {}
    parts = [name]
    for field in fields(layer):  # type: ignore[arg-type]
        value = getattr(layer, field.name)
        default = same.get(field.name, field.default)
        if value in (default, (default, default)):
            continue
        parts += [options[field.name]] if field.name in options else []
        parts.append(_number_text(value))
    return " ".join(parts)


def _number_text(value: Any) -> str:
    if isinstance(value, tuple):
        return str(value[0]) if value[0] == value[1] else "x".join(map(str, value))
    return str(value).removesuffix(".0")


def _parsed(text: str, depth: int) -> list[StatedLayer]:
    if depth > _DEEPEST:
        raise InputError(f"layers: expected at most {_DEEPEST} residual blocks in each other")
    layers: list[StatedLayer] = []
    for index, item in enumerate(_items(text)):
        word, bracket, inside = item.partition("(")
        if bracket and _plain(word) == "residual":
            if not inside.endswith(")"):
                raise _wrong(index, item, _RESIDUAL)
            layers.append(Residual(cast("list[Layer]", _parsed(inside[:-1], depth + 1))))
        else:
            layers.append(_layer(index, item))
    return layers


def _items(text: str) -> list[str]:
    """Items between commas or ends of lines, outside of brackets."""
    items, start, depth = [], 0, 0
    ends = [*((place, letter) for place, letter in enumerate(text) if letter in ",;\n()"), None]
    for end in ends:
        place, letter = end or (len(text), "")
        depth += (letter == "(") - (letter == ")")
        if depth < 0 or (end is None and depth):
            raise InputError("layers: brackets do not match; expected residual(LAYER, ...)")
        if depth == 0 and letter not in ("(", ")"):
            items.append(" ".join(text[start:place].split()))
            start = place + 1
    if not any(items):
        raise InputError(f"layers: no layer; expected some of {_known()}")
    return [item for item in items if item]


def _layer(index: int, item: str) -> Any:
    name, *rest = item.split()
    if _plain(name) == "residual":
        raise _wrong(index, item, _RESIDUAL)
    names = {_plain(known): known for known in WORDS}
    names |= {_plain(word.make.__name__): known for known, word in WORDS.items() if word.optional}
    if _plain(name) not in names:
        hint = _LEAVE_OUT.get(_plain(name))
        near = suggestion(name.lower(), [*WORDS, "residual"])
        said = f"expected one of {_known()}{near}" if hint is None else hint
        raise InputError(f"layers, item {index + 1} {item[:80]!r}: no layer {name[:40]!r}; {said}")
    known = names[_plain(name)]
    word = WORDS[known]
    wanted = word.numbers.split()
    options = dict(word.options)
    given = next((i for i, part in enumerate(rest) if part.lower() in options), len(rest))
    numbers, pairs = rest[:given], rest[given:]
    if len(numbers) != len(wanted) and not (word.optional and len(numbers) < len(wanted)):
        raise _wrong(index, item, word.form(known))
    try:
        values = [_read(word, kind, number) for kind, number in zip(wanted, numbers, strict=False)]
        chosen = {}
        for option, number in zip(pairs[::2], pairs[1::2], strict=True):
            argument = options.pop(option.lower())  # once each
            chosen[argument] = _OPTIONS.get(argument, _size)(number)
        return word.make(*values, **chosen)
    except InputError as error:
        raise InputError(f"layers, item {index + 1} {item[:80]!r}: {error}") from None
    except (ValueError, KeyError):
        raise _wrong(index, item, word.form(known)) from None


def _read(word: _Word, kind: str, number: str) -> Any:
    """A number behind a word; only a kernel size may be two."""
    return _integer(number) if word.read is _size and kind != "K" else word.read(number)


def _wrong(index: int, item: str, form: str) -> InputError:
    return InputError(f"layers, item {index + 1} {item[:80]!r}: expected {form}")


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", "")


def _known() -> str:
    return ", ".join([*WORDS, "residual"])
