"""The members of the graph as rows, with what the hover tells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import CustomJSHover

from swarmjax.anomaly import KINDS
from swarmjax.space import Choice
from viz import metrics
from viz.history import History
from viz.layout import Layout

# Of more members the hover is told numbers instead of words.
MAX_TOLD = 2000
# Words of many members would take longer to send than all else: the browser finds them.
WORD = "return words[value]"
BITS = "return words.filter((_word, i) => value >> i & 1).join(', ') || 'none'"
Hover = tuple[list[str], dict[str, Any]]


def node_table(history: History, layout: Layout, *, color: str, size: str) -> pd.DataFrame:
    """One row per member: place, shade in `[0, 1]`, size in screen units, and for the hover words.

    Of more than `MAX_TOLD` members the hover is told numbers, of options their places.
    """
    tint, shade = _shade(history, color)
    weight, share = _shade(history, size)
    # Area shows the value; crowded swarms get smaller nodes.
    unit = min(26.0, 400.0 / math.sqrt(history.members + 60))
    nodes = pd.DataFrame(
        {
            "x": layout.positions[:, 0],
            "y": layout.positions[:, 1],
            "member": history.last("member"),
            "birth": history.last("birth"),
            "alive": history.last("alive"),
            "alarm": history.last("alarm"),
            "shade": shade,
            "px": unit * np.sqrt(0.08 + 0.92 * share**1.5),
        }
    )
    for column, name, metric in (("color_value", color, tint), ("size_value", size, weight)):
        values = history.last(name).astype(float)
        nodes[column] = values if _many(history) else [metrics.text(v, metric) for v in values]
    if _many(history):
        genome = history.genome()
        told = {f"gene_{i}": genome[name] for i, (name, _) in enumerate(history.space.genes)}
    else:
        told = {"group": architectures(history), "genome": genomes(history)}
    return nodes.assign(**told)


def _many(history: History) -> bool:
    return history.members > MAX_TOLD


def hover_of(history: History) -> Hover:
    """The columns that the hover needs beside `_NODE`, and its options."""
    rows = [("member", "@member"), ("network", "@birth"), ("alarms", "@alarm{custom}")]
    formats: dict[str, Any] = {"@alarm": CustomJSHover(code=BITS, args={"words": list(KINDS)})}
    if not _many(history):
        rows[2:2] = [
            ("color", "@color_value"), ("size", "@size_value"), ("architecture", "@group"),
            ("genome", "@genome"),
        ]  # fmt: skip
        return ["group", "genome"], {"hover_tooltips": rows, "hover_formatters": formats}
    told = [("color", "color_value", None), ("size", "size_value", None)]
    told += [(name, f"gene_{i}", gene) for i, (name, gene) in enumerate(history.space.genes)]
    for name, column, gene in told:
        words = [str(option) for option in gene.options] if isinstance(gene, Choice) else []
        formats[f"@{column}"] = (
            CustomJSHover(code=WORD, args={"words": words}) if words else "printf"
        )
        rows.insert(-1, (name, f"@{column}{{{'custom' if words else '%.4g'}}}"))
    return [column for _, column, _ in told[2:]], {
        "hover_tooltips": rows,
        "hover_formatters": formats,
    }


def architectures(history: History) -> list[str]:
    """The structural genes of every member in words, such as `depth 2, width 64`."""
    names = history.space.structural
    if not names:
        return [""] * history.members
    frame = pd.DataFrame({name: history.last(name) for name in names})
    kind = frame.groupby(list(names), sort=False).ngroup().to_numpy()
    first = frame.iloc[np.unique(kind, return_index=True)[1]]
    texts = [
        ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=True))
        for row in first.itertuples(index=False, name=None)
    ]
    return [texts[i] for i in kind.tolist()]


def genomes(history: History) -> list[str]:
    """The other genes of every member in words."""
    columns = []
    for name, _ in history.space.genes:
        if name not in history.space.structural:
            metric = metrics.describe(name, history.space)
            values = history.last(name)
            told = (
                [metrics.text(v, metric) for v in values] if _numeric(values) else values.tolist()
            )
            columns.append([f"{name} {value}" for value in told])
    return [", ".join(row) for row in zip(*columns, strict=True)] or [""] * history.members


def _numeric(values: np.ndarray) -> bool:
    return values.dtype.kind in "fiu"


def _shade(history: History, name: str) -> tuple[metrics.Metric, np.ndarray]:
    metric = metrics.describe(name, history.space)
    values = metrics.scaled(history.last(name), metric)
    usable = np.where(history.last("alive"), values, np.nan)
    shades = metrics.shades(usable, metrics.scale(usable), metric)
    return metric, np.where(np.isfinite(shades), shades, 0.0)
