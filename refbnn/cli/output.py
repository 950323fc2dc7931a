"""Output of commands: tables, progress bars, JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def print_table(
    header: Sequence[str], rows: Sequence[Sequence], left: Collection[int] = (0,)
) -> None:
    """Print rows of text, with the columns of these indices flush left, the others flush right."""
    from tabulate import tabulate

    aligned = ["left" if index in left else "right" for index in range(len(header))]
    print(tabulate(rows, header, disable_numparse=True, colalign=aligned))


@contextmanager
def progress(description: str, total: int, unit: str = "step") -> Iterator[Callable[[str], None]]:
    """Show a progress bar on a terminal; yields what to call, with its name, after each step."""
    from tqdm import tqdm

    with tqdm(total=total, desc=description, unit=unit, disable=None) as bar:

        def tick(step: str) -> None:
            bar.set_postfix_str(step, refresh=False)
            bar.update()

        yield tick


def plotter(path: Path | None, name: str, function: str = "draw") -> Callable[..., None]:
    """Return what draws `figures.pictures.<name>.<function>` of its arguments and saves it.

    Called before long work: Matplotlib may be missing. Without a path nothing is drawn.
    """
    if path is None:
        return lambda *_: None
    from importlib import import_module

    draw = getattr(import_module(f"figures.pictures.{name}"), function)
    from figures.support.style import save

    def plot(*data) -> None:
        save(draw(*data), path)
        print(path)

    return plot


class Lines:
    """Lines of progress on standard output, where no bar is shown: now and then, and at once."""

    def __init__(self, shown: bool):
        self._shown, self._last = shown, time.monotonic()

    def say(self, seconds: float, text: str) -> None:
        """Print the line, unless another was printed less than these seconds ago."""
        if self._shown and time.monotonic() - self._last >= seconds:
            print(text, flush=True)
            self._last = time.monotonic()


def write_json(path: Path | None, numbers: Mapping) -> None:
    """Write a JSON file, if one is wanted."""
    from refbnn.files.atomic import write_text

    if path is not None:
        write_text(path, as_json(numbers))


def as_json(value: Mapping) -> str:
    """JSON text; what is not a finite number becomes null, since JSON knows no NaN."""

    def clean(item):
        if isinstance(item, Mapping):
            return {key: clean(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [clean(entry) for entry in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    return json.dumps(clean(value), indent=1, allow_nan=False) + "\n"
