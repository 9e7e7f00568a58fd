"""New data for a drawn figure, sent as columns.

HoloViews would work out the whole figure anew, which takes many times as long.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn

from viz import theme
from viz.marks import Mark, Marks, kind_of, names_of

# Options that HoloViews makes a column of where they name a dimension.
VARIED = ("color", "line_color", "text_color", "size")
MODELS = ("hover_formatters",)
# Elements of which every column is a dimension.
PLAIN = (hv.Points, hv.Segments, hv.Labels, hv.Curve, hv.Contours)
# Columns of texts up to this length are compared, and not sent again; numbers always.
SHORT = 64


def kind(overlay: hv.Overlay | Marks) -> list[tuple]:
    """All of a figure but its data: elements, dimensions and options."""
    return [(kind_of(part), names_of(part), _fixed(part)) for part in overlay] + [
        (kind_of(overlay), [], _fixed(overlay))
    ]


def _fixed(part: Any) -> dict[str, Any]:
    """Its options, without what bokeh has models for: those follow from the tooltips."""
    return {name: option for name, option in theme.given(part).items() if name not in MODELS}


def sendable(overlay: hv.Overlay) -> bool:
    """Whether `send` knows what a figure of this kind is made of, and how it follows its data."""
    known = all(kind_of(part) in (*PLAIN, hv.Image, hv.Area) for part in overlay)
    return known and any(part.extents[0] is not None for part in overlay)


def send(plot: Any, marks: Marks) -> bool:
    """Puts new data into a drawn figure of this `kind`; False where that cannot be done.

    Args:
        plot: what HoloViews made of a `sendable` one.
        marks: with the new data.
    """
    drawn = list(plot.subplots.values())
    if len(marks) != len(drawn):
        return False
    fresh = []
    for part, subplot in zip(marks, drawn, strict=True):
        source = subplot.handles["source"]
        columns = _sent(part, source.column_names)
        if columns is None:
            return False
        fresh.append((source, columns))

    def put() -> None:
        # Whoever clicks is answered without the lock of the document, which changes need else.
        with pn.io.unlocked():
            for source, columns in fresh:
                if not _same(source.data, columns):
                    source.data = columns
            theme.follow(plot, marks)

    pn.state.execute(put)
    return True


def _sent(part: Mark, names: Collection[str]) -> dict[str, Any] | None:
    """As `columns_of`, worked out once for all figures that show this very part."""
    if part.sent is None or part.sent[0] != tuple(names):
        part.sent = tuple(names), columns_of(part, names)
    return part.sent[1]


def columns_of(part: Mark, names: Collection[str]) -> dict[str, Any] | None:
    """The data of a part under the `names` that HoloViews uses; None where it knows others."""
    if part.kind is hv.Image:
        return _of_image(part)
    if part.kind is hv.Area:
        at, top, bottom = map(part.column, part.names)
        return {"x": np.append(at, at[::-1]), "y": np.append(bottom, top[::-1])}
    known = {name: name for name in part.names}
    given = theme.given(part)
    options = {name: given[name] for name in VARIED if given.get(name) in known}
    if part.kind is hv.Contours:
        known |= dict(zip(("xs", "ys"), known, strict=False))
    if not set(names) <= {*known, *options} or not set(options) <= set(names):
        return None
    return {name: part.column((known | options)[name]) for name in names}


def _of_image(part: Mark) -> dict[str, Any]:
    left, bottom, right, top = part.bounds
    data: dict[str, Any] = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
    values = dict(zip(["image", *part.names[3:]], part.data[2:], strict=True))
    return data | {name: [each] for name, each in values.items()}


def _same(old: Any, new: dict[str, Any]) -> bool:
    return set(old) == set(new) and all(
        len(old[name]) == len(values) and _equal(old[name], values) for name, values in new.items()
    )


def _equal(old: Any, new: Any) -> bool:
    if isinstance(new, np.ndarray):
        alike = isinstance(old, np.ndarray) and old.dtype == new.dtype
        return alike and np.array_equal(old, new, equal_nan=new.dtype.kind == "f")
    if len(new) > SHORT or any(isinstance(value, np.ndarray) for value in new):
        return False
    return isinstance(old, list) and old == new
