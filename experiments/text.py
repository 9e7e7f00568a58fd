"""A swarm of small transformers on the next character of English: `python -m experiments.text`."""

import swarmjax as sj

experiment = sj.Experiment(
    task=sj.tasks.text(),
    model="transformer",
    space=sj.Space(
        learning_rate=sj.log_uniform(1e-4, 1e-2),
        weight_decay=sj.log_uniform(1e-6, 1e-2),
        activation=sj.choice("relu", "gelu", "silu"),
        optimizer=sj.choice("adam", "adamw"),
        depth=sj.structure(1, 2, 3),
        width=sj.structure(32, 64),
    ),
    policy=sj.chain(sj.exploit(), sj.proportional(loss=0.7, efficiency=0.3), sj.perturb()),
    members=16,
    budget=6_400,
)

if __name__ == "__main__":
    sj.main(experiment)
