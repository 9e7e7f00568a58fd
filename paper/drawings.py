"""The paper's figures, from what `facts.read` found; those whose rows are absent are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from paper import figures, peers_figures, peers_tables
from paper.facts import Measured
from paper.figures import COLOURS
from paper.measure import median, progress
from paper.search import Outcome

# Titles of tables of gains, by benchmark and row.
GAINS = {
    ("search", "others"): "presets over swarm",
    ("search", "breeding"): "breeding over pbt",
    ("ablations", "links"): "links changed or left out, over swarm",
    ("ablations", "allocators"): "allocators over that of swarm",
    ("ablations", "diversity"): "diversity over swarm",
}


def draw(measured: Iterable[Measured], folder: Path) -> list[str]:
    """Writes every figure that can be drawn as `NAME.svg` into `folder`; their names."""
    found = {(m.bench, m.row): m.record["raw"] for m in measured if m.record["raw"]}
    drawn = [name for name, make in _FIGURES.items() if _made(make, found, folder, name)]
    return [*drawn, *(_gains(found, folder))]


def speed(raw: list[dict[str, Any]], axis: Any) -> None:
    """How many times faster than one compiled scan per member, warm and with compilation."""
    names = [f"{each['case']['members']} x {each['case']['width']}" for each in raw]
    for offset, (key, label) in enumerate({"ratios": "warm", "ratios_cold": "cold"}.items()):
        heights = [each[key]["scan"] for each in raw]
        places = [i + 0.4 * offset for i in range(len(raw))]
        axis.bar(places, heights, 0.38, label=label, color=COLOURS[offset])
    axis.axhline(1.0, color="black", linewidth=0.8)
    axis.set_xticks([i + 0.2 for i in range(len(raw))], names, rotation=45, ha="right")
    axis.set_xlabel("members x width")
    axis.set_ylabel("times as fast as a scan")
    axis.legend(frameon=False)


def intervals(raw: Mapping[str, Any], axes: Any) -> None:
    """Gains with their intervals, a column a task; test score of the best network."""
    for axis, (task, told) in zip(axes, raw.items(), strict=True):
        for row, each in enumerate(told["gains"].values()):
            colour = COLOURS[2] if each["low"] > 0 else COLOURS[3] if each["high"] < 0 else "grey"
            axis.plot([each["low"], each["high"]], [row, row], color=colour, linewidth=2.5)
            axis.plot(each["value"], row, marker="o", color=colour)
        axis.axvline(0.0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(told["gains"])), told["gains"] if axis is axes[0] else [])
        axis.invert_yaxis()
        axis.set_title(task)
        axis.set_xlabel("gain in test accuracy")
        axis.tick_params(axis="x", labelsize="small", rotation=30)


def scaling(found: Mapping[str, Any], axes: Any) -> None:
    """Seconds and bytes against the number of members, both logarithmic."""
    held = {row: {int(n): each for n, each in raw.items()} for row, raw in found.items()}
    for colour, (row, label) in zip(COLOURS, _SCALED.items(), strict=False):
        seconds = {n: median(each["warm"]) for n, each in held.get(row, {}).items()}
        _line(axes[0], seconds, label, colour)
    stored = {n: each["found"]["bytes"] for n, each in held.get("telemetry", {}).items()}
    memory = {n: each["memory"] for n, each in held.get("rounds", {}).items()}
    _line(axes[1], stored, "stored a round", COLOURS[2])
    _line(axes[1], memory, "memory held", COLOURS[0])
    for axis, unit in zip(axes, ("seconds", "bytes"), strict=True):
        axis.set(xlabel="members", ylabel=unit)
        if axis.lines:
            axis.set(xscale="log", yscale="log")
            axis.legend(frameon=False)


def _line(axis: Any, values: Mapping[int, float], label: str, colour: str) -> None:
    if values:
        axis.plot(list(values), list(values.values()), "o-", color=colour, label=label)


_SCALED = {
    "rounds": "round of 20 steps",
    "policies": "policy decides",
    "telemetry": "round stored",
}


def _engine(found: Mapping[tuple[str, str], Any], folder: Path, name: str) -> None:
    figure, (axis,) = _figure(1, 7, 3.2)
    speed(found["engine", "loops"], axis)
    _save(figure, folder / name)


def _scaling(found: Mapping[tuple[str, str], Any], folder: Path, name: str) -> None:
    raw = {row: held for (bench, row), held in found.items() if bench == "scaling"}
    if not raw:
        raise KeyError("scaling")
    figure, axes = _figure(2, 8, 3.2)
    scaling(raw, axes)
    _save(figure, folder / name)


def _search(found: Mapping[tuple[str, str], Any], folder: Path, name: str) -> None:
    raw = found["search", "searches"]
    outcomes = {
        task: {policy: [Outcome(**each) for each in some] for policy, some in t["outcomes"].items()}
        for task, t in raw.items()
    }
    figures.searches(outcomes, False, folder)


def _lcbench(found: Mapping[tuple[str, str], Any], folder: Path, name: str) -> None:
    from paper.lcbench_searches import BUDGET

    tasks = found["search", "lcbench"]["tasks"]
    figures.regrets({f"OpenML task {task}": t for task, t in tasks.items()}, BUDGET, False, folder)


def _crossover(found: Mapping[tuple[str, str], Any], folder: Path, name: str) -> None:
    swept = {
        label: {int(x): peers_tables.trials_of(case) for x, case in found["peers", row].items()}
        for row, (label, _) in peers_tables.SWEPT.items()
        if ("peers", row) in found
    }
    if not swept:
        raise KeyError("peers")
    peers_figures.crossover(swept, folder)


def _races(found: Mapping[tuple[str, str], Any], folder: Path, name: str) -> None:
    rows = {row: raw for (bench, row), raw in found.items() if row.startswith("target-")}
    if not rows:
        raise KeyError("target")
    tasks = {
        row.removeprefix("target-"): (raw["target"], peers_tables.trials_of(raw))
        for row, raw in rows.items()
    }
    peers_figures.races(tasks, folder)


_FIGURES: dict[str, Callable[..., None]] = {
    "speed": _engine,
    "search": _search,
    "lcbench": _lcbench,
    "scaling": _scaling,
    "peers-crossover": _crossover,
    "peers-races": _races,
}


def _made(make: Callable[..., None], found: Any, folder: Path, name: str) -> bool:
    """Whether a figure could be drawn; not where its row was not measured."""
    try:
        make(found, folder, name)
    except KeyError as absent:
        progress(f"figure {name} is left out: {absent} was not measured")
        return False
    return True


def _gains(found: Mapping[tuple[str, str], Any], folder: Path) -> list[str]:
    drawn = []
    for (bench, row), title in GAINS.items():
        if (bench, row) not in found:
            progress(f"figure {row} is left out: {bench} was not measured")
            continue
        raw = found[bench, row]
        rows = max(len(told["gains"]) for told in raw.values())
        figure, axes = _figure(len(raw), 8, 1.4 + 0.3 * rows)
        intervals(raw, axes)
        figure.suptitle(title)
        _save(figure, folder / row)
        drawn.append(row)
    return drawn


def _figure(columns: int, width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    return figure, axes[0]


def _save(figure: Any, stem: Path) -> None:
    from matplotlib import pyplot as plt

    figure.tight_layout()
    figure.savefig(stem.with_suffix(".svg"))
    plt.close(figure)
    progress(f"figure {stem.with_suffix('.svg')}")
