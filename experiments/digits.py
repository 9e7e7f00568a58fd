"""A swarm of mixed MLPs on handwritten digits: `python -m experiments.digits`."""

import swarmjax as sj

experiment = sj.Experiment(
    task=sj.tasks.digits(),
    space=sj.Space(
        learning_rate=sj.log_uniform(1e-4, 1e-1),
        weight_decay=sj.log_uniform(1e-6, 1e-2),
        activation=sj.choice("relu", "gelu", "silu", "tanh"),
        optimizer=sj.choice("sgd", "momentum", "adam", "adamw"),
        depth=sj.structure(1, 2, 3),
        width=sj.structure(16, 32, 64, 128),
    ),
    policy=sj.chain(sj.exploit(), sj.proportional(accuracy=0.7, efficiency=0.3), sj.perturb()),
    members=64,
    budget=32_000,
)

if __name__ == "__main__":
    sj.main(experiment)
