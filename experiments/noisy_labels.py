"""Does a search overfit wrong labels? Digits with a fifth of the training labels redrawn."""

import swarmjax as sj

experiment = sj.Experiment(
    task="digits-noisy",
    space=sj.Space(
        learning_rate=sj.log_uniform(1e-4, 1e-1),
        weight_decay=sj.log_uniform(1e-5, 1.0),
        optimizer=sj.choice("adamw"),
        width=sj.structure(16, 64, 256),
    ),
    policy="pbt",
    members=48,
    budget=24_000,
)

if __name__ == "__main__":
    sj.main(experiment)
