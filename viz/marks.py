"""The parts of a figure: elements of HoloViews, or what they would be made of.

Making them takes longer than all else when a drawn figure is only to get new data, for which their
columns are enough; see `columns.send`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

_NOWHERE = (None, None, None, None)
_light: ContextVar[bool] = ContextVar("light", default=False)


class Mark:
    """What an element of HoloViews would be made of.

    Attributes:
        kind: its class.
        data: a data frame, a tuple of columns, or rows; of contours, a dictionary per path.
        names: of its dimensions, those of the place first.
        extents: left, bottom, right and top of the figure; Nones: whatever fits.
        bounds: likewise, of an image.
        sent: what `columns` made of it last, and for which names.
    """

    sent: tuple[tuple[str, ...], dict[str, Any] | None] | None = None

    def __init__(self, kind: type, data: Any, names: Sequence[str], extents: Any, bounds: Any):
        self.kind, self.data, self.names = kind, data, list(names)
        self.extents, self.bounds = extents, bounds

    def column(self, name: str) -> Any:
        """The values under a name: an array, or a list if they are no numbers, or of each path."""
        place = self.names.index(name)
        if self.kind is hv.Contours:
            return [path[name] for path in self.data]
        if isinstance(self.data, pd.DataFrame):
            return numbers(self.data[name].to_numpy())
        if isinstance(self.data, np.ndarray):
            return self.data[:, place]
        if not isinstance(self.data, list):
            return numbers(np.asarray(self.data[place]))
        column = [row[place] for row in self.data]
        # An array of texts would make texts of numbers, too.
        texts = any(isinstance(value, str) for value in column)
        return column if texts else numbers(np.asarray(column))


class Marks(list):
    """What an overlay would be made of, in order."""


@contextlib.contextmanager
def light() -> Iterator[None]:
    """Meanwhile no elements are made in this context."""
    before = _light.set(True)
    try:
        yield
    finally:
        _light.reset(before)


def is_light() -> bool:
    """Whether no elements are made in this context."""
    return _light.get()


def element(
    kind: Any, data: Any, places: Any, values: Any = (), *, extents: Any = _NOWHERE, **more: Any
) -> Any:
    """An element, or a `Mark` in its place.

    Args:
        kind: class of HoloViews.
        data: for it; an image is given its columns by rows from below.
        places: names of the dimensions of the place.
        values: of all others.
        extents: of the figure.
        more: what else the class takes.
    """
    if not _light.get():
        return kind(data, places, _listed(values), extents=extents, **more)
    names = [*_listed(places), *_listed(values)]
    return Mark(kind, data, names, extents, more.get("bounds"))


def overlay(parts: Iterable[Any]) -> Any:
    """An overlay of elements, or of what stands in their place."""
    return Marks(parts) if _light.get() else hv.Overlay(list(parts))


def kind_of(part: Any) -> type:
    """The class of HoloViews that a part is, or stands for."""
    if isinstance(part, Marks):
        return hv.Overlay
    return part.kind if isinstance(part, Mark) else type(part)


def names_of(part: Any) -> list[str]:
    """The names of all dimensions of a part."""
    return part.names if isinstance(part, Mark) else [str(each) for each in part.dimensions()]


def numbers(values: np.ndarray) -> Any:
    """The values as they are, or as a list if they are no numbers."""
    return values if values.dtype.kind in "biuf" else values.tolist()


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
