"""Figures of the peers' benchmark: where who is faster, and how soon who is good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paper.figures import COLOURS, FOLDER
from paper.measure import median, progress
from paper.peers import SIDES, Trial

Found = Mapping[str, Sequence[Trial]]

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
    from matplotlib import ticker

    figure, axes = _subplots(2, (10, 4.5))
    sides = list(dict.fromkeys(side for sides in found.values() for side in sides))
    for axis, clock in zip(axes, ("cold", "warm"), strict=True):
        for side in sides:
            points = [
                (x, value, any(t.scaled for t in trials[side]))
                for x, trials in found.items()
                if (value := middle(trials.get(side, ()), clock)) is not None
            ]
            _line(axis, points, side)
        axis.set(title=clock, xscale="log", yscale="log", xlabel=label)
        axis.set_xticks(list(found), list(map(str, found)))
        axis.minorticks_off()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds of a search")
    return _finish(figure, axes[0], name, quick, folder)


def curves(
    name: str, found: Found, target: float, quick: bool, folder: Path = FOLDER
) -> list[Path]:
    """Best validation accuracy over the seconds since a program was started, a line a search."""
    figure, axes = _subplots(1, (6, 4.5))
    for side, trials in found.items():
        for i, trial in enumerate(trials):
            points = [(seconds, valid) for seconds, _, valid in trial.curve if valid is not None]
            if points:
                x, y = zip(*points, strict=True)
                label = None if i else side
                axes[0].step(x, y, where="post", label=label, linewidth=1.2, **STYLES[side])
    axes[0].axhline(target, color="black", linewidth=0.8, linestyle=":")
    finals = [trial.valid for trials in found.values() for trial in trials if trial.valid]
    span = max([*finals, target]) - target + 0.02
    axes[0].set_ylim(target - 4 * span, target + 1.2 * span)
    axes[0].set(title=name, xscale="log", xlabel="seconds since the start")
    axes[0].set_ylabel("best validation accuracy")
    axes[0].grid(alpha=0.3)
    return _finish(figure, axes[0], name, quick, folder)


def middle(trials: Sequence[Trial], clock: str) -> float | None:
    """Median seconds by one of a trial's clocks; None where no trial has it."""
    some = [value for trial in trials if (value := getattr(trial, clock)) is not None]
    return median(some) if some else None


def _line(axis: Any, points: list[tuple[int, float, bool]], side: str) -> None:
    if not points:
        return
    x, y, _ = zip(*points, strict=True)
    axis.plot(x, y, label=side, linewidth=1.5, marker="o", **STYLES[side])
    for x, y, scaled in points:
        if scaled:
            axis.plot(x, y, marker="o", markerfacecolor="white", **STYLES[side])


def _subplots(columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=size, squeeze=False, sharey=True)
    return figure, list(axes[0])


def _finish(figure: Any, axis: Any, name: str, quick: bool, folder: Path) -> list[Path]:
    from matplotlib import pyplot as plt

    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"peers-{name}{'-quick' if quick else ''}"
    paths = [folder / f"{stem}.{kind}" for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=150)
        progress(f"figure {path}")
    plt.close(figure)
    return paths
