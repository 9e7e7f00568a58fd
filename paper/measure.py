"""What every benchmark needs: bars, medians, the machine's facts and the JSON they end in."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from swarmjax import resources

ROOT = Path(__file__).parents[1]

# Above this many busy processes a figure says more about the neighbours than about the code.
BUSY = 1.5

_PACKAGES = "jax jaxlib flax optax numpy torch ray optuna onnxruntime".split()


# Of a bar that its row did not measure.
_UNTOLD = "failed (not measured)"


class Target(NamedTuple):
    """What a figure must be: `sense` is `>=` or `<=`."""

    sense: str
    number: float

    def __str__(self) -> str:
        return f"{self.sense}{self.number:g}"

    def met_by(self, value: float) -> bool:
        """Whether `value` is good enough; NaN never is."""
        return value >= self.number if self.sense == ">=" else value <= self.number


class Bar(NamedTuple):
    """One figure against its target.

    Attributes:
        name: of the figure.
        target: what it must be.
        value: what it is, or None if it could not be measured.
        reason: why not, such as `skipped (install '.[bench]')`.
    """

    name: str
    target: Target
    value: float | None
    reason: str = ""

    @property
    def met(self) -> bool:
        """Whether it was measured and is good enough."""
        return self.value is not None and self.target.met_by(self.value)

    def line(self) -> str:
        """`bar NAME VALUE TARGET met|missed`."""
        if self.value is None:
            return f"bar {self.name} - {self.target} {self.reason}"
        return f"bar {self.name} {self.value:.3g} {self.target} {'met' if self.met else 'missed'}"


class Row(NamedTuple):
    """A group of bars that are measured together.

    Attributes:
        targets: `targets(quick) -> {bar: Target}`; a quick row may have fewer bars.
        measure: `measure(quick) -> ({bar: value}, raw)`; `raw` is every figure, fit for JSON.
    """

    targets: Callable[[bool], Mapping[str, Target]]
    measure: Callable[[bool], tuple[Mapping[str, float], Any]]


class MissingPeer(Exception):
    """What this row compares with is not installed."""

    @property
    def advice(self) -> str:
        """What a person may do about it, or why nothing."""
        return "install '.[bench]'"


class MissingData(Exception):
    """What this row measures on is not there; the message says what to do."""


def at_least(number: float) -> Target:
    """A value must be `number` or more."""
    return Target(">=", number)


def at_most(number: float) -> Target:
    """A value must be `number` or less."""
    return Target("<=", number)


def need(*modules: str) -> None:
    """Raises MissingPeer unless all of `modules` are installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingPeer(", ".join(absent))


def measure_row(row: Row, quick: bool) -> tuple[list[Bar], dict[str, Any]]:
    """Measures one row: its bars, and its record with the load of the machine around it."""
    targets, before, start = row.targets(quick), load(), time.perf_counter()
    values, raw, reason = {}, None, ""
    try:
        values, raw = row.measure(quick)
    except MissingPeer as missing:
        reason = f"skipped ({missing.advice})"
        progress(f"not installed: {missing}")
    except MissingData as missing:
        reason = f"not measured: {missing}"
        progress(reason)
    except Exception as error:  # noqa: BLE001 - the other rows must still be measured
        reason = f"failed ({type(error).__name__}: {first_line(error)})"
        progress(reason)
    bars = [
        Bar(name, target, values.get(name), "" if name in values else reason or _UNTOLD)
        for name, target in targets.items()
    ]
    seconds = time.perf_counter() - start
    record = {"load_before": before, "load_after": load(), "seconds": seconds, "raw": raw}
    record |= {"reason": reason} if reason else {}
    return bars, record | {"bars": [bar_record(bar) for bar in bars]}


def bar_record(bar: Bar) -> dict[str, Any]:
    """A bar as JSON has it."""
    return {
        "name": bar.name, "value": bar.value, "target": str(bar.target), "met": bar.met,
        "reason": bar.reason,
    }  # fmt: skip


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    return statistics.median(values)


def geometric_mean(values: Iterable[float]) -> float:
    """The number whose logarithm is the mean of the logarithms."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def load() -> float:
    """Processes that wanted to run, averaged over the last minute."""
    return os.getloadavg()[0]


def patience() -> float:
    """How many times longer than on an idle machine something may take before it is ended."""
    return max(1.0, load() / resources.cores())


def machine_facts() -> dict[str, Any]:
    """What a reader needs to know about where and on what figures were measured."""
    return {
        "cpu": _cpu_model(),
        "cores": resources.cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: v for name in _PACKAGES if (v := _version(name)) is not None},
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": load(),
    }


def machine_name(facts: Mapping[str, Any]) -> str:
    """A short name for files: cores, and the accelerator or the processor."""
    chip = facts["gpu"][0] if facts["gpu"] else facts["cpu"]
    return re.sub(r"[^a-z0-9]+", "-", f"{facts['cores']}-core {chip}".lower()).strip("-")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(record, indent=1, allow_nan=True) + "\n")
    aside.replace(path)


def progress(text: str) -> None:
    """Tells a person who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def first_line(error: object) -> str:
    """The first line of what `error` says."""
    return next(iter(str(error).splitlines()), "")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names of the GPUs, asked of the driver, since importing JAX would take their memory."""
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [
            str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)))
            for i in range(count)
        ]
    except pynvml.NVMLError:
        return []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit that is checked out, with `+` if files differ from it; empty outside git."""
    git = ("git", "-C", str(ROOT))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
