"""What a trainer decided about speed and memory, and why, in lines for whoever started the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmjax.cohorts import Cohorts, Costs
from swarmjax.following import Homes
from swarmjax.placement import Layout


def programs_line(architectures: int, programs: int, cohorts: Cohorts, costs: Costs) -> str:
    """Which programs there will be: `programs` for so many `architectures`, by these estimates."""
    if architectures == 1:
        return "all networks have the same architecture and share one compiled program"
    if programs == architectures:
        shared, other = "have a compiled program each", ""
    else:
        plural = "" if programs == 1 else "s"
        shared = f"share {programs} compiled program{plural}"
        other = f", and {cohorts.separate:.0f} s with a program each"
    return (
        f"{architectures} architectures {shared}: compiling and training are reckoned to take "
        f"{cohorts.seconds:.0f} s{other} (with {costs.compile_seconds:.1f} s to compile one, "
        f"{costs.flops_per_second / 1e9:.0f} GFLOP/s, {1e6 * costs.step_seconds:.0f} us for the "
        "least step)"
    )


def followed_line(before: Homes, after: Homes) -> str:
    """That programs were decided on anew, since few architectures are left."""
    new = len(after.known) - len(before.known)
    programs = f"{new} new program{'' if new == 1 else 's'}" if new else "smaller programs"
    plural = "architecture trains" if after.seen == 1 else "architectures train"
    return (
        f"{after.seen} {plural} on: {programs}, by which the rest is reckoned to take "
        f"{after.seconds:.0f} s instead of {after.before:.0f} s"
    )


def devices_line(
    used: int, all_: int, platform: str, why: str, host: bool, sizes: Mapping[str, int]
) -> str:
    """Where members train and are kept.

    Args:
        used: devices that train.
        all_: devices there are.
        platform: of them, as in `cpu`.
        why: so many; empty where nothing was to be decided.
        host: whether the host's memory keeps the members.
        sizes: bytes of `state`, `data` and `lane`, as in `capacity.Need`.
    """
    reason = f" ({why})" if why else ""
    state, data, lane = (f"{sizes[name] / 2**20:.0f} MiB" for name in ("state", "data", "lane"))
    where = " in the memory of the host" if host else ""
    return (
        f"training on {used} of {all_} {platform.upper()} device{'' if all_ == 1 else 's'}{reason};"
        f" memory: weights and optimizer state {state}{where}, data {data}, training itself {lane}"
    )


def compiling_line(container: Any, layout: Layout, why: str) -> str:
    """A program that is about to be compiled, and how many networks train together in it."""
    reason = f" ({why})" if why else ""
    if layout.share > 1:
        together = f"one after the other, each on {layout.share} devices"
    elif layout.chunk == 1:
        together = "one after the other"
    else:
        together = f"in chunks of {layout.chunk} side by side"
    return f"compiling a program for {_networks(container)}, trained {together}{reason}"


def retired_line(container: Any, error: str) -> str:
    """That networks of a container are given up, and why."""
    return f"{_networks(container)} cannot be trained and are retired: {error}"


def _networks(container: Any) -> str:
    """Whom a container holds: smaller ones too where it is a record of sizes."""
    padded = hasattr(container, "_asdict")
    pairs = container._asdict().items() if padded else container
    sizes = ", ".join(f"{name} {value}" for name, value in pairs)
    if not sizes:
        return "the network"
    return f"networks padded to {sizes}" if padded else f"networks of {sizes}"
