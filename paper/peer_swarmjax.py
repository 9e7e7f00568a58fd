"""swarmjax itself: `python -m paper.peer_swarmjax POLICY FILE`, with the experiment in FILE."""

from __future__ import annotations

import sys
from pathlib import Path

import swarmjax as sj
from paper.peer_protocol import Experiment, Report, read, split
from swarmjax.progress import Silent
from swarmjax.store import Status
from swarmjax.tasks import Task


class Told(Silent):
    """Reports every round."""

    def __init__(self, report: Report):
        """Of a search that begins."""
        self._report, self._done = report, 0

    def show(self, status: Status) -> None:
        """How the run stands after a round."""
        if status.best is not None:
            self._report.tell(status.done - self._done, status.best)
            self._done = status.done


def main(policy: str, path: str) -> None:
    """The searches, each a run of its own."""
    experiment = read(path)
    report, space, task = Report(experiment), space_of(experiment), task_of(experiment)
    for number in range(experiment.searches):
        report.begin()
        report.end(search(experiment, space, task, policy, Told(report), number))


def space_of(experiment: Experiment) -> sj.Space:
    """The space of the experiment."""
    kinds = {"log_uniform": sj.log_uniform, "choice": sj.choice, "structure": sj.structure}
    genes = {name: kinds[kind](*rest) for name, (kind, *rest) in experiment.space.items()}
    return sj.Space(**genes)


def task_of(experiment: Experiment) -> Task:
    """The task of the experiment."""
    train, valid, test = (split(experiment.data, name) for name in ("train", "valid", "test"))
    return sj.tasks.task(
        "peers", train, valid, test, batch=experiment.batch, outputs=experiment.outputs
    )


def search(
    experiment: Experiment, space: sj.Space, task: Task, policy: str, display: Told, number: int
) -> float:
    """One search; the test accuracy of the network that was best by validation."""
    result = sj.run(
        task=task,
        space=space,
        policy=policy,
        members=experiment.members,
        budget=experiment.budget,
        round_steps=experiment.round_steps,
        seed=experiment.seed,
        # The peers return one network too.
        ensemble=0,
        directory=Path(experiment.folder) / f"run{number}",
        display=display,
    )
    return float(result.best.scores["test_accuracy"])


if __name__ == "__main__":
    main(*sys.argv[1:])
