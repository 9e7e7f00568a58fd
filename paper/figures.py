"""Figures of the search benchmark: curves over what was spent, profiles, intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paper.intervals import middle_mean, profile
from paper.measure import ROOT, progress

FOLDER = ROOT / "paper" / "results"

# Colours that differ also without red or green (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


def searches(
    found: dict[str, dict[str, list[Any]]], quick: bool, folder: Path | None = None
) -> list[Path]:
    """Best validation score by member-steps, and profiles of test scores; a column a task."""
    figure, axes = _grid(len(found), 4 * len(found), 6.5)
    for column, (task, outcomes) in enumerate(found.items()):
        _curves(axes[0, column], outcomes)
        _profiles(axes[1, column], outcomes)
        axes[0, column].set_title(task)
    axes[0, 0].set_ylabel("best validation accuracy")
    axes[1, 0].set_ylabel("share of seeds at or above")
    seeds = len(next(iter(next(iter(found.values())).values())))
    return _finish(figure, "search", f"64 networks, {seeds} seeds", 1, quick, folder)


def regrets(
    tasks: dict[str, dict[str, Any]], budget: int, quick: bool, folder: Path | None = None
) -> list[Path]:
    """Regret on LCBench over the epochs spent, and at the end with intervals; a column a task.

    Args:
        tasks: title -> `regret_curve` and `regret` by policy, each with `value`, `low`, `high`.
        budget: epochs of a search.
        quick: told in the title and the files' names.
        folder: of the files; where results are kept unless given.
    """
    figure, axes = _grid(len(tasks), 2.8 * len(tasks), 7)
    for column, (title, told) in enumerate(tasks.items()):
        axes[0, column].set_title(title)
        _regret_curves(axes[0, column], told["regret_curve"], budget)
        _regret_dots(axes[1, column], told["regret"])
        if column:
            axes[1, column].set_yticklabels([])
    axes[0, 0].set_ylabel("regret of validation accuracy, points")
    return _finish(figure, "lcbench", "LCBench surrogate", 2, quick, folder)


def _grid(columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    """A figure of two rows, in inches, and its axes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    return plt.subplots(2, columns, figsize=(width, height), squeeze=False)


def _finish(
    figure: Any, name: str, title: str, rows: int, quick: bool, folder: Path | None
) -> list[Path]:
    """Writes a figure, with a legend of so many rows below it for what its first axis shows."""
    from matplotlib import pyplot as plt

    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = -(-len(labels) // rows)
    figure.legend(handles, labels, loc="lower center", ncols=columns, frameon=False)
    figure.suptitle(f"{title}{', quick' if quick else ''}")
    figure.tight_layout(rect=(0, 0.03 + 0.02 * rows, 1, 1))
    stem = (folder or FOLDER) / f"{name}{'-quick' if quick else ''}"
    paths = [stem.with_suffix(f".{kind}") for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=150)
        progress(f"figure {path}")
    plt.close(figure)
    return paths


def _regret_curves(axis, curves: dict[str, list[dict[str, float]]], budget: int) -> None:
    for style, (name, curve) in zip(_styles(), curves.items(), strict=False):
        epochs = budget * np.arange(1, len(curve) + 1) / len(curve)
        axis.plot(epochs, [each["value"] for each in curve], label=name, linewidth=1.5, **style)
    _near_log(axis, "y")
    axis.set_xlabel("epochs of all networks")


def _regret_dots(axis, regret: dict[str, dict[str, float]]) -> None:
    for row, (style, each) in enumerate(zip(_styles(), regret.values(), strict=False)):
        axis.plot([each["low"], each["high"]], [row, row], linewidth=2.5, color=style["color"])
        axis.plot(each["value"], row, marker="o", color=style["color"])
    axis.set_yticks(range(len(regret)), regret)
    axis.invert_yaxis()
    _near_log(axis, "x")
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("regret at the end")


def _near_log(axis, which: str) -> None:
    """Logarithmic down to a tenth and linear below it, since a regret may be 0."""
    from matplotlib import ticker

    getattr(axis, f"set_{which}scale")("symlog", linthresh=0.1)
    line, subs = getattr(axis, f"{which}axis"), (1.0, 1.5, 2.0, 3.0, 5.0)
    line.set_major_locator(ticker.SymmetricalLogLocator(base=10, linthresh=0.1, subs=subs))
    line.set_major_formatter("{x:g}")
    line.set_minor_formatter(ticker.NullFormatter())
    axis.tick_params(axis=which, labelsize="small")
    axis.margins(0.06)


def _styles() -> list[dict[str, str]]:
    """A colour and a dash that no two of 21 lines share."""
    return [{"color": c, "linestyle": dash} for dash in ("-", "--", ":") for c in COLOURS]


def _curves(axis, outcomes: dict[str, list[Any]]) -> None:
    for colour, (name, some) in zip(COLOURS, outcomes.items(), strict=False):
        curves = np.asarray([outcome.curve for outcome in some])
        spread = [middle_mean(values) for values in curves.T]
        x = np.arange(1, len(spread) + 1)
        axis.plot(x, [each.value for each in spread], color=colour, label=name, linewidth=1.5)
        low, high = [each.low for each in spread], [each.high for each in spread]
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("rounds of 3,200 member-steps")
    best = np.concatenate([[o.curve[-1] for o in some] for some in outcomes.values()])
    first = np.concatenate([[o.curve[1] for o in some] for some in outcomes.values()])
    axis.set_ylim(float(np.quantile(first, 0.1)), min(1.0, float(best.max()) + 0.005))


def _profiles(axis, outcomes: dict[str, list[Any]]) -> None:
    tests = {name: np.asarray([o.test for o in some]) for name, some in outcomes.items()}
    every = np.concatenate(list(tests.values()))
    levels = np.linspace(every.min() - 0.002, every.max() + 0.002, 60)
    for colour, (name, scores) in zip(COLOURS, tests.items(), strict=False):
        made = profile(scores, levels)
        axis.plot(levels, made["share"], color=colour, label=name, linewidth=1.5)
        axis.fill_between(levels, made["low"], made["high"], color=colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("test accuracy")
