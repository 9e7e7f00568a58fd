"""Population Based Training against random search on spirals, at equal member-steps.

`swarmjax run experiments/random_or_pbt.py --policy random_search` runs the other side alone;
`python -m experiments.random_or_pbt` runs both and prints what each found.
"""

from dataclasses import replace

import swarmjax as sj

experiment = sj.Experiment(
    task="spirals",
    space=sj.Space(
        learning_rate=sj.log_uniform(1e-4, 1e-1),
        momentum=sj.uniform(0.5, 0.99),
        optimizer=sj.choice("momentum", "adam"),
        activation=sj.choice("relu", "tanh"),
        width=sj.structure(32, 64),
        depth=sj.structure(2, 3),
    ),
    policy="pbt",
    members=32,
    budget=32_000,
)

if __name__ == "__main__":
    for policy in ("pbt", "random_search"):
        best = sj.run(replace(experiment, policy=policy)).best
        print(f"{policy:14} test accuracy {best.scores['test_accuracy']:.4f}  {best.genome}")
