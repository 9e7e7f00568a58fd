"""Rows of training speed: the engine against plain loops, PyTorch, `lax.conv`, and on a GPU.

Both sides train on the same batches for the same steps and validate every network once a round.
A round has 200 steps (100 from 1,024 networks on): long enough that validation, a few hundred
examples, is a small part for both sides, and about what a round of a real search has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from paper.measure import (
    Row,
    Target,
    at_least,
    geometric_mean,
    machine_facts,
    need,
    progress,
)
from paper.workers import Worker, check_same_work, compare

ENGINE, SCAN, STEP = ("paper.side_engine",), ("paper.side_jax", "20"), ("paper.side_jax", "1")
EAGER, VMAP = ("paper.side_torch", "eager"), ("paper.side_torch", "vmap")
GEMM = ("paper.side_gemm",)

# members x width of MLPs 64-width-10.
GRID = [(members, width) for members in (16, 64, 256, 1024) for width in (16, 64, 128)]
QUICK = [(64, 16), (256, 64)]
STEPPED = {(256, 64): 4.0, (1024, 16): 8.0}
TORCH = [(64, 16), (64, 128), (256, 64)]
CNNS = [(64, 8), (64, 16)]
GPU = [64, 256, 1024, 8192]

# A loop over networks takes time in proportion to them: of more, this many stand for all.
_SAMPLE = 64


def repeats(quick: bool) -> int:
    """Rounds of every side that count, after the one that compiles."""
    return 2 if quick else 5


def mlps(size: tuple[int, int]) -> dict[str, Any]:
    """The case of MLPs of a size `(members, width)`."""
    members, width = size
    steps = 200 if members < 1024 else 100
    return {"kind": "mlp", "members": members, "width": width, "steps": steps}


def loops() -> Row:
    """Against a jitted 20-step scan, and a jitted step, for one member after the other."""

    def targets(quick: bool) -> dict[str, Target]:
        sizes = QUICK if quick else GRID
        bars = {f"scan-{name_of(size)}": at_least(1.5) for size in sizes}
        steps = {f"step-{name_of(s)}": at_least(t) for s, t in STEPPED.items() if s in sizes}
        return steps | bars | {"scan-mean": at_least(2.2)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        values, raw = {}, []
        for size in QUICK if quick else GRID:
            sides = {"engine": ENGINE, "scan": SCAN} | ({"step": STEP} if size in STEPPED else {})
            found = faster(sides, mlps(size), repeats(quick))
            raw.append(found)
            values |= {f"{side}-{name_of(size)}": v for side, v in found["ratios"].items()}
        scans = [value for name, value in values.items() if name.startswith("scan-")]
        return values | {"scan-mean": geometric_mean(scans)}, raw

    return Row(targets, measure)


def torch() -> Row:
    """Against PyTorch: the eager loop, and torch.func.vmap."""

    def targets(quick: bool) -> dict[str, Target]:
        sizes = TORCH[:1] if quick else TORCH
        wanted = {"eager": at_least(7.0), "vmap": at_least(1.6)}
        return {f"{side}-{name_of(s)}": t for s in sizes for side, t in wanted.items()}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("torch")
        values, raw = {}, []
        for size in TORCH[:1] if quick else TORCH:
            sides = {"engine": ENGINE, "eager": EAGER, "vmap": VMAP}
            found = faster(sides, mlps(size), repeats(quick))
            raw.append(found)
            values |= {f"{side}-{name_of(size)}": v for side, v in found["ratios"].items()}
        return values, raw

    return Row(targets, measure)


def cnn() -> Row:
    """Against the same CNN by `flax.linen.Conv`, one member after the other."""

    def targets(quick: bool) -> dict[str, Target]:
        return {f"cnn-{name_of(size)}": at_least(3.0) for size in (CNNS[:1] if quick else CNNS)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        values, raw = {}, []
        for size in CNNS[:1] if quick else CNNS:
            case = {"kind": "cnn", "members": size[0], "width": size[1], "steps": 40}
            found = faster({"engine": ENGINE, "scan": SCAN}, case, repeats(quick))
            raw.append(found)
            values[f"cnn-{name_of(size)}"] = found["ratios"]["scan"]
        return values, raw

    return Row(targets, measure)


def gpu() -> Row:
    """On a GPU: speed, and share of the ceiling of matrix products. No bars without one."""

    def targets(quick: bool) -> dict[str, Target]:
        if not machine_facts()["gpu"]:
            return {}
        wanted = {"scan": 50.0, "eager": 300.0, "ceiling": 0.4}
        return {f"gpu-{side}-{n}": at_least(w) for n in (256, 1024) for side, w in wanted.items()}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        if not machine_facts()["gpu"]:
            progress("no GPU here")
            return {}, None
        need("torch")
        values, raw = {}, []
        for members in GPU:
            found = _gpu_case(members, repeats(quick))
            raw.append(found)
            values |= {f"gpu-{side}-{members}": v for side, v in found["ratios"].items()}
        return values, raw

    return Row(targets, measure)


def faster(
    sides: Mapping[str, Sequence[str]], case: Mapping[str, Any], count: int
) -> dict[str, Any]:
    """Measures one case: all raw figures, and how many times faster the engine is than each."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(*side)) for name, side in sides.items()}
        measured = compare(workers, case, count)
    check_same_work(measured)
    return {"case": dict(case), "sides": measured, **ratios(measured)}


def ratios(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Time of each peer over the engine's: warm, and with what compiling took."""
    engine = sides["engine"]
    peers = [name for name in sides if name != "engine"]
    return {
        "ratios": {name: sides[name]["median"] / engine["median"] for name in peers},
        "ratios_cold": {name: sides[name]["cold"] / engine["cold"] for name in peers},
    }


def name_of(size: tuple[int, int]) -> str:
    """`members x width` in a bar's name."""
    return f"{size[0]}x{size[1]}"


def _gpu_case(members: int, count: int) -> dict[str, Any]:
    """As `faster`; loops are timed on a sample of the networks and their time is scaled up."""
    case = {"kind": "mlp", "members": members, "width": 64, "steps": 200}
    few = case | {"members": min(members, _SAMPLE)}
    with Worker(*ENGINE) as engine:
        sides = compare({"engine": engine}, case, count)
    with Worker(*SCAN) as scan, Worker(*EAGER) as eager:
        sides |= compare({"scan": scan, "eager": eager}, few, count)
    with Worker(*GEMM) as gemm:
        sides |= compare({"gemm": gemm}, case, count)
    scale = members / few["members"]
    engine_seconds, gemm_seconds = sides["engine"]["median"], sides["gemm"]["median"]
    values = {name: scale * sides[name]["median"] / engine_seconds for name in ("scan", "eager")}
    values["ceiling"] = gemm_seconds / engine_seconds
    return {"case": case, "sampled": few["members"], "sides": sides, "ratios": values}
