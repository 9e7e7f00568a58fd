"""Figures of the peers' benchmark: where who is faster, and how soon who is good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paper.figures import COLOURS, FOLDER
from paper.measure import median, progress
from paper.peers import SIDES, Trial

Found = Mapping[str, Sequence[Trial]]

CLOCKS = ("cold", "warm")

# A side looks alike in every figure.
_LOOKS = [{"color": colour, "linestyle": dash} for dash in ("-", "--") for colour in COLOURS]
STYLES: dict[str, dict[str, str]] = dict(zip(SIDES, _LOOKS, strict=False))


def sweep(
    name: str, label: str, found: Mapping[int, Found], quick: bool, folder: Path = FOLDER
) -> list[Path]:
    """Seconds of a search over what was swept, cold beside warm; hollow where they were scaled.

    Args:
        name: of the files.
        label: of what was swept.
        found: value of it -> side -> trials.
        quick: told in the title and the files' names.
        folder: of the files.
    """
    figure, axes = _subplots((1, 2), (10, 4.5))
    for axis, clock in zip(axes[0], CLOCKS, strict=True):
        _seconds(axis, label, found, clock)
        axis.set(title=clock)
    axes[0][0].set_ylabel("seconds of a search")
    return _finish(figure, axes[0], name, quick, folder)


def crossover(found: Mapping[str, Mapping[int, Found]], folder: Path) -> list[Path]:
    """All sweeps in one figure, a column each: seconds of a search, cold above and warm below.

    Args:
        found: what was swept -> value of it -> side -> trials.
        folder: of the file.
    """
    figure, axes = _subplots((2, len(found)), (10, 6))
    for column, (label, some) in enumerate(found.items()):
        for row, clock in enumerate(CLOCKS):
            _seconds(axes[row][column], label if row else "", some, clock)
    for row, clock in zip(axes, CLOCKS, strict=True):
        row[0].set_ylabel(f"seconds, {clock}")
    return _finish(figure, axes.ravel(), "crossover", False, folder)


def races(tasks: Mapping[str, tuple[float, Found]], folder: Path) -> list[Path]:
    """`curves` of several tasks side by side: task -> target and trials of each side."""
    figure, axes = _subplots((1, len(tasks)), (10, 3.8), sharey=False)
    for axis, (task, (target, found)) in zip(axes[0], tasks.items(), strict=True):
        _race(axis, task, found, target)
    axes[0][0].set_ylabel("best validation accuracy")
    return _finish(figure, axes[0], "races", False, folder)


def curves(
    name: str, found: Found, target: float, quick: bool, folder: Path = FOLDER
) -> list[Path]:
    """Best validation accuracy over the seconds since a program was started, a line a search."""
    figure, axes = _subplots((1, 1), (6, 4.5))
    _race(axes[0][0], name, found, target)
    axes[0][0].set_ylabel("best validation accuracy")
    return _finish(figure, axes[0], name, quick, folder)


def middle(trials: Sequence[Trial], clock: str) -> float | None:
    """Median seconds by one of a trial's clocks; None where no trial has it."""
    some = [value for trial in trials if (value := getattr(trial, clock)) is not None]
    return median(some) if some else None


def _race(axis: Any, name: str, found: Found, target: float) -> None:
    for side, trials in found.items():
        for i, trial in enumerate(trials):
            points = [(seconds, valid) for seconds, _, valid in trial.curve if valid is not None]
            if points:
                x, y = zip(*points, strict=True)
                label = None if i else side
                axis.step(x, y, where="post", label=label, linewidth=1.2, **STYLES[side])
    axis.axhline(target, color="black", linewidth=0.8, linestyle=":")
    finals = [trial.valid for trials in found.values() for trial in trials if trial.valid]
    span = max([*finals, target]) - target + 0.02
    axis.set_ylim(target - 4 * span, target + 1.2 * span)
    axis.set(title=name, xscale="log", xlabel="seconds since the start")
    axis.grid(alpha=0.3)


def _seconds(axis: Any, label: str, found: Mapping[int, Found], clock: str) -> None:
    from matplotlib import ticker

    for side in dict.fromkeys(side for sides in found.values() for side in sides):
        points = [
            (x, value, any(t.scaled for t in trials[side]))
            for x, trials in found.items()
            if (value := middle(trials.get(side, ()), clock)) is not None
        ]
        _line(axis, points, side)
    axis.set(xscale="log", yscale="log", xlabel=label)
    axis.set_xticks(list(found), list(map(str, found)))
    axis.minorticks_off()
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)


def _line(axis: Any, points: list[tuple[int, float, bool]], side: str) -> None:
    if not points:
        return
    x, y, _ = zip(*points, strict=True)
    axis.plot(x, y, label=side, linewidth=1.5, marker="o", **STYLES[side])
    for x, y, scaled in points:
        if scaled:
            axis.plot(x, y, marker="o", markerfacecolor="white", **STYLES[side])


def _subplots(shape: tuple[int, int], size: tuple[float, float], sharey: Any = "row") -> Any:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    return plt.subplots(*shape, figsize=size, squeeze=False, sharey=sharey)


def _finish(figure: Any, axes: Iterable[Any], name: str, quick: bool, folder: Path) -> list[Path]:
    """Writes a figure, with a legend below it of every side that one of its axes shows."""
    from matplotlib import pyplot as plt

    told = [axis.get_legend_handles_labels() for axis in axes]
    known = {label: handle for some in told for handle, label in zip(*some, strict=True)}
    if known:
        figure.legend(list(known.values()), list(known), loc="lower center", ncols=5, frameon=False)
    below = 0.45 * -(-len(known) // 5) / figure.get_size_inches()[1]
    figure.tight_layout(rect=(0, below, 1, 1))
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"peers-{name}{'-quick' if quick else ''}"
    paths = [folder / f"{stem}.{kind}" for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=150)
        progress(f"figure {path}")
    plt.close(figure)
    return paths
