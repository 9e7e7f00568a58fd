"""Your own Flax module on your own arrays: a small convolutional net, BatchNorm and dropout.

Replace `x` and `y` with your data, `Net` with your model, and the genes with what you vary.
"""

import flax.linen as nn
from sklearn.datasets import load_digits

import swarmjax as sj


class Net(nn.Module):
    """`channels` shapes the network; `train` switches BatchNorm and dropout."""

    channels: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Maps images `[B, 8, 8, 1]` to logits `[B, 10]`."""
        x = nn.relu(nn.Conv(self.channels, (3, 3), strides=2)(x))
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.2, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(10)(x)


x, y = load_digits(return_X_y=True)

experiment = sj.Experiment(
    task=sj.tasks.arrays(x.reshape(-1, 8, 8, 1) / 16, y, name="own-model"),
    model=Net,
    space=sj.Space(
        learning_rate=sj.log_uniform(1e-4, 1e-1),
        optimizer=sj.choice("momentum", "adam"),
        channels=sj.structure(4, 8),
    ),
    members=16,
    budget=3_200,
)

if __name__ == "__main__":
    sj.main(experiment)
