"""A whole program: Optuna's TPE over PyTorch networks. `python -m paper.whole_optuna FOLDER`."""

import json

import optuna

from paper import whole_data as search
from paper.whole_torch import Trainee


def objective(trial: optuna.Trial) -> float:
    """Trains one network, validated as often as the other programs validate theirs."""
    rate = trial.suggest_float("learning_rate", search.LOW, search.HIGH, log=True)
    trainee = Trainee(rate, seed=trial.number)
    best = 0.0
    for _ in range(search.STEPS // search.EVERY):
        best = max(best, trainee.steps(search.EVERY))
    return best


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=search.MEMBERS)
    print(json.dumps({"valid_accuracy": study.best_value}))
