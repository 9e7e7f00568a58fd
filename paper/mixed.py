"""Rows of 256 random MLPs of many architectures, compile time included and excluded.

The peer compiles a program for each distinct network in turn, which takes many minutes. So it is
measured once, in as many parts as the engine has repeats: each part, every fifth of its programs,
is compiled and trained right after a cold start of the engine. A quick run compiles a sample of the
programs and scales its time up.
"""

from __future__ import annotations

from typing import Any

from paper.measure import Row, Target, at_least, median, progress
from paper.throughput import ENGINE, SCAN, repeats
from paper.workers import Worker

CASE = {"kind": "mixed", "members": 256, "steps": 500}
CORES = (0, 1)

# A quick run compiles one in so many programs of the peer.
_SAMPLED = 24


def mixed() -> Row:
    """Against one program for each distinct network, and against one such process per core."""

    def targets(quick: bool) -> dict[str, Target]:
        bars = {"mixed-cold": at_least(10.0), "mixed-warm": at_least(2.5)}
        return bars if quick else bars | {"mixed-per-core": at_least(1.2)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        count = 1 if quick else repeats(quick)
        parts = _SAMPLED if quick else count
        engine, peer = [], []
        for i in range(count):
            engine.append(_cold(ENGINE, CASE))
            peer.append(_cold(SCAN, CASE | {"share": (i, parts)}))
        whole = scaled(peer)
        values = {
            "mixed-cold": whole["cold"] / median(side["cold"] for side in engine),
            "mixed-warm": whole["warm"] / median(side["warm"] for side in engine),
        }
        raw = {"engine": engine, "peer": peer, "whole_peer": whole}
        if not quick:
            raw["per_core"] = _per_core(count)
            values["mixed-per-core"] = raw["per_core"]["ratio"]
        return values, raw

    return Row(targets, measure)


def scaled(parts: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds for all from those of parts: compiling by programs, training by networks."""
    found = [part["found"] for part in parts]
    programs = found[0]["all_programs"] / sum(f["programs"] for f in found)
    networks = found[0]["all_networks"] / sum(f["networks"] for f in found)
    warm = networks * sum(part["warm"] for part in parts)
    compiled = programs * sum(part["cold"] - part["warm"] for part in parts)
    return {"warm": warm, "compile": compiled, "cold": warm + compiled}


def _cold(side: tuple[str, ...], case: dict[str, Any]) -> dict[str, Any]:
    """A fresh process: its first round with all it takes to make the networks, and a second one."""
    with Worker(*side) as worker:
        prepared, first, second = worker.ask(case=case), worker.ask(), worker.ask()
    cold = prepared["seconds"] + first["seconds"]
    progress(f"mixed {' '.join(side)}: cold {cold:.3g} s, warm {second['seconds']:.3g} s")
    return {
        "cold": cold,
        "warm": second["seconds"],
        "found": first["found"],
        "cpu": second["cpu_seconds"],
    }


def _per_core(count: int) -> dict[str, Any]:
    """Half of the networks in each of two processes at the same time, each on its own core."""
    with Worker(*ENGINE) as engine, Worker(*SCAN) as first, Worker(*SCAN) as second:
        halves = (first, second)
        engine.ask(case=CASE)
        engine.ask()
        for core, half in zip(CORES, halves, strict=True):
            half.send(case=CASE | {"share": (core, len(CORES)), "core": core})
        together(halves)
        together(halves, ask=True)
        ours, theirs = [], []
        for _ in range(count):
            ours.append(engine.ask()["seconds"])
            theirs.append(max(answer["seconds"] for answer in together(halves, ask=True)))
    progress(f"mixed: engine {median(ours):.3g} s, a process per core {median(theirs):.3g} s")
    return {"engine": ours, "per_core": theirs, "ratio": median(theirs) / median(ours)}


def together(workers: tuple[Worker, ...], ask: bool = False) -> list[dict[str, Any]]:
    """What all workers answer, having been asked for a round first if `ask`."""
    for worker in workers if ask else ():
        worker.send()
    return [worker.receive() for worker in workers]
