"""What the machine has to offer; the only module that asks it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import jax
import psutil

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(device: Any) -> float:
    """Bytes that can still be used on a device; for a CPU device those of the whole host."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return free_host_memory()


def free_host_memory() -> float:
    """Bytes that this process can still use, within its container's limit where there is one."""
    return min(psutil.virtual_memory().available, _cgroup_room())


def memory_in_use() -> tuple[float, float]:
    """Bytes that this process holds in the host's memory, and on its accelerators; NaN: unknown."""
    stats = [d.memory_stats() for d in jax.local_devices() if d.platform != "cpu"]
    held = [each["bytes_in_use"] for each in stats if each and "bytes_in_use" in each]
    return float(psutil.Process().memory_info().rss), float(sum(held)) if held else float("nan")


def machine_name() -> str:
    """Processor, cores, accelerators and versions: what a measurement of speed belongs to."""
    devices = jax.local_devices()
    kinds = f"{len(devices)} x {devices[0].device_kind}"
    return f"{_processor()}, {psutil.cpu_count()} cores, {kinds}, jax {jax.__version__}"


def _cgroup_room() -> float:
    try:
        limit, used = (
            (_CGROUP / f"memory.{part}").read_text().strip() for part in ("max", "current")
        )
        room = int(limit) - int(used)
    except (OSError, ValueError):
        # No such limit, or one that is written as "max".
        return float("inf")
    return room + _cached_files()


def _cached_files() -> int:
    """Bytes that count as used but are given back when asked for: files read and not used since."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
