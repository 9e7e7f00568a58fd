"""Optuna: TPE with the median pruner over PyTorch networks. `python -m paper.peer_optuna FILE`.

As Optuna's guide to parallel optimization advises for one host: a process for each core, which
share a study in a journal file, and a sampler that knows of the trials that still run
(`constant_liar`). The pruner has Optuna's own settings and sees every validation. Trials go on
until the member-steps are spent, so that pruning buys further trials.
"""

from __future__ import annotations

import sys
from pathlib import Path

from paper.peer_protocol import Experiment, read
from paper.peer_shares import Share, gather


def work(experiment: Experiment, number: int) -> None:
    """One process of the study."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from paper.peer_torch import Trainee

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    share, folder = Share(), Path(experiment.folder)

    def objective(trial: optuna.Trial) -> float:
        genes = {name: suggest(trial, name, *gene) for name, gene in experiment.space.items()}
        trainee, best = Trainee(experiment, genes, trial.number), 0.0
        for step in range(experiment.rounds):
            valid = trainee.train(experiment.round_steps)
            file = trainee.keep(valid, folder / f"trial{trial.number}-{step}.npz")
            share.tell(experiment.round_steps, valid, file)
            best = max(best, valid)
            trial.report(valid, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    for _ in share.searches():
        study = optuna.create_study(
            study_name="peer", load_if_exists=True, direction="maximize",
            storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
            sampler=optuna.samplers.TPESampler(seed=experiment.seed + number, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(),
        )  # fmt: skip
        # Until the budget is spent, when this process is ended.
        study.optimize(objective)


def suggest(trial, name: str, kind: str, *rest):
    """One gene of a trial."""
    if kind == "log_uniform":
        return trial.suggest_float(name, *rest, log=True)
    return trial.suggest_categorical(name, rest)


def main(path: str, number: str | None = None) -> None:
    """The search, or with a number one process of it."""
    experiment = read(path)
    if number is not None:
        work(experiment, int(number))
        return
    command = (sys.executable, "-m", "paper.peer_optuna", path)
    gather([(*command, str(each)) for each in range(experiment.cores)], experiment)


if __name__ == "__main__":
    main(*sys.argv[1:])
