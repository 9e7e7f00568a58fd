"""Row: four PyTorch processes and a vectorised swarm in one run over RabbitMQ.

The run and the nodes are those of `experiments.pytorch_node`, each a process. Counted is from what
the run has stored: whether nodes took the steps that Plans granted, how often one started from the
weights of another, whether they ended when the run was over, and whether the dashboard's feed shows
them beside the others. Whether the policy lets a node start from another one of its architecture is
chance, with sixteen members and three such nodes: so a person asks for it once, too, by a directive
that the policy's Plans carry, and the raw figures tell both apart.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paper.brokers import RabbitMQ
from paper.measure import ROOT, Row, at_least, at_most, need, progress
from swarmjax import ledger
from swarmjax.errors import InputError
from swarmjax.inbox import Inbox
from swarmjax.records import Report
from swarmjax.steering import Clone, Member
from swarmjax.store import DATABASE
from swarmjax.stored import open_run

_WIDTHS = (32, 32, 32, 64)
_HOUR = 3600.0


def mixed_swarm() -> Row:
    """What nodes are told is done."""
    targets = {
        "node_steps_not_as_granted": at_most(0), "node_exploits": at_least(1),
        "nodes_stopped": at_least(len(_WIDTHS)), "nodes_in_the_graph": at_least(len(_WIDTHS)),
    }  # fmt: skip
    return Row(lambda quick: targets, _measure)


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    need("torch")
    budget = 6_400 if quick else 16_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.closing(RabbitMQ(folder)) as broker:
            statuses = _train(broker.url, folder, budget)
        values, raw = counted(folder / "run")
    values["nodes_stopped"] = sum(status == 0 for status in statuses)
    progress(f"{values}: {raw}")
    return values, raw | {"statuses": statuses, "budget": budget}


def _train(url: str, folder: Path, budget: int) -> list[int]:
    """Runs the swarm with its nodes; the exit statuses of the nodes."""
    module = [sys.executable, "-m", "experiments.pytorch_node"]
    environment = os.environ | {"SWARMJAX_BUS": url, "JAX_PLATFORMS": "cpu"}
    swarm = [*module, "swarm", "--directory", str(folder / "run"), "--budget", str(budget)]
    nodes = [
        [*module, "node", "--name", f"torch-{i}", "--width", str(width), "--spool",
         str(folder / f"torch-{i}.spool")]
        for i, width in enumerate(_WIDTHS)
    ]  # fmt: skip
    # The broker has a folder called `log` there.
    said = folder / "said"
    with said.open("wb") as log:
        started = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            for command in (swarm, *nodes)
        ]
        try:
            run, *others = started
            _ask_for_a_copy(folder / "run", run)
            if run.wait(_HOUR):
                raise RuntimeError(f"the swarm failed: {said.read_text()[-1000:]}")
            return [node.wait(120) for node in others]
        finally:
            for process in started:
                process.kill()
                process.wait()


def _ask_for_a_copy(directory: Path, run: subprocess.Popen[bytes]) -> None:
    """Asks that the worse of two nodes of one size starts from the better, once both trained."""
    while run.poll() is None:
        time.sleep(0.2)
        # The run may not have begun, or be over.
        with contextlib.suppress(InputError), contextlib.closing(open_run(directory)) as reader:
            if reader.rounds()[1:]:
                pair = copied(reader.round(reader.rounds()[-1]))
                ledger.queue(directory / DATABASE, "bench", [pair])
                return


def copied(rows: pa.Table) -> Clone:
    """The directive, from the rows of a round; raises InputError as long as there is no pair."""
    nodes = rows.to_pandas()[-len(_WIDTHS) :].sort_values("valid_accuracy")
    alike = nodes[nodes.parameters == nodes.parameters.mode()[0]]
    if len(alike) < 2 or not np.isfinite(alike.valid_accuracy).all():
        raise InputError("no two nodes of one size have scores yet")
    worst, best = (Member(int(row.member), int(row.birth)) for row in
                   (alike.iloc[0], alike.iloc[-1]))  # fmt: skip
    return Clone(best, worst)


def counted(directory: Path) -> tuple[dict[str, float], Any]:
    """What became of the nodes of a run."""
    with contextlib.closing(open_run(directory)) as reader:
        rows = reader.frames().to_pandas()
        granted = sum(plan["steps"].to_numpy()[-len(_WIDTHS) :].sum() for _, plan in reader.plans())
        asked = [entry for entry in reader.directives() if entry.state == "applied"]
    with contextlib.closing(Inbox(directory / "inbox.db")) as inbox:
        reports = [record for _, record in inbox.records() if isinstance(record, Report)]
        refused = inbox.reasons()
    taken = sum(report.steps for report in reports)
    shown = rows[rows.member >= rows.member.max() + 1 - len(_WIDTHS)]
    values = {
        "node_steps_not_as_granted": float(abs(granted - taken)),
        "node_exploits": sum(report.started == "weights" for report in reports),
        "nodes_in_the_graph": _in_graph(directory),
    }  # fmt: skip
    raw = {
        "granted": int(granted), "taken": taken, "steps_in_frames": int(shown.steps.sum()),
        "rounds": int(rows["round"].max()), "reports": len(reports), "refused": refused,
        "exploits_asked_for": len(asked), "exploits_in_rounds": _copies(shown),
        "steps_of_nodes": [int(shown[shown.member == m].steps.sum()) for m in set(shown.member)],
        "valid_accuracy": float(np.nanmax(shown.valid_accuracy)),
    }  # fmt: skip
    return values, raw


def _copies(rows: Any) -> list[int]:
    """Rounds in which a node began with the weights of another node."""
    first = int(rows.member.min())
    known = rows[(rows.parent != rows.member) & (rows.parent >= first)]
    return sorted(set(known["round"].tolist()))


def _in_graph(directory: Path) -> int:
    """How many nodes the dashboard's feed has among its latest members, alive and with a score."""
    # Imported here: it brings the dashboard's libraries.
    from viz.source import Feed

    feed = Feed(directory)
    feed.poll()
    history = feed.snapshot.history
    if history is None:
        return 0
    last = slice(history.members - len(_WIDTHS), None)
    seen = history.last("alive")[last] & np.isfinite(history.last("valid_accuracy")[last])
    return int(seen.sum())
