"""Four PyTorch networks and twelve vectorised ones in one swarm, over a message queue.

Each of these is a process of its own, on this host or another; PyTorch is needed for nodes only:

    export SWARMJAX_BUS=amqp://localhost
    python -m experiments.pytorch_node swarm --directory runs/mixed
    python -m experiments.pytorch_node node --name torch-0 --width 32

Replace `Net` by your module, `digits` by your data, and the genes by what you vary.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from swarmjax.nodes import Job, Node, Profile
from swarmjax.records import Layer

DEPTH, BATCH, SWARM = 2, 64, "digits"


def main() -> None:
    """Runs the swarm, or one of its nodes."""
    parser = argparse.ArgumentParser(description="A swarm with nodes that train in PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    swarm = commands.add_parser("swarm", help="the vectorised members, and all decisions")
    swarm.add_argument("--directory", type=Path)
    swarm.add_argument("--nodes", type=int, default=4)
    swarm.add_argument("--budget", type=int, default=8_000)
    swarm.add_argument("--resume", action="store_true", help="go on with the run in the directory")
    node = commands.add_parser("node", help="one PyTorch network, on the CPU")
    node.add_argument("--name", required=True)
    node.add_argument("--width", type=int, default=32, choices=(16, 32, 64))
    node.add_argument("--spool", type=Path, help="file for what is not sent yet")
    given = parser.parse_args()
    if given.command == "swarm":
        run_swarm(given.directory, given.nodes, given.budget, given.resume)
    else:
        Trainer(given.width).join(given.name, given.spool or Path(f"{given.name}.spool"))


def run_swarm(directory: Path | None, nodes: int, budget: int, resume: bool = False) -> None:
    """Members in this process, which waits for its nodes; the bus is that of the environment."""
    import swarmjax as sj

    sj.run(
        task=sj.tasks.digits(),
        space=sj.Space(
            learning_rate=sj.log_uniform(1e-3, 1.0),
            depth=sj.structure(1, DEPTH), width=sj.structure(16, 32, 64),
        ),
        policy=sj.chain(sj.softmax(), sj.exploit(), sj.perturb()), members=12 + nodes,
        nodes=nodes, swarm=SWARM, budget=budget, directory=directory, display=sj.Terminal(),
        resume=resume,
    )  # fmt: skip


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and validation examples, the same as those of the vectorised members."""
    x, y = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(x))
    _, valid, train = np.split(order, [round(0.2 * len(x)), round(0.4 * len(x))])
    x = (x / 16).astype(np.float32)
    return (x[train], y[train]), (x[valid], y[valid])


class Trainer:
    """An ordinary PyTorch training loop that takes its steps when it is granted them."""

    def __init__(self, width: int):
        """A network of `DEPTH` hidden layers of that width."""
        import torch

        # Nodes share the cores of their host.
        torch.set_num_threads(1)
        self._torch, self._width, self._rate = torch, width, 0.05
        (x, y), (valid_x, valid_y) = digits()
        self._train = torch.as_tensor(x), torch.as_tensor(y)
        self._valid = torch.as_tensor(valid_x), torch.as_tensor(valid_y)
        self._draws = torch.Generator().manual_seed(time.time_ns())
        self._renew()

    def join(self, name: str, spool: Path) -> None:
        """Trains as a node of the swarm until it is told to stop."""
        profile = Profile(
            genes={"learning_rate": self._rate, "depth": DEPTH, "width": self._width},
            # This node can be told another learning rate, but not another architecture.
            obeys=["learning_rate"],
            weights=self._arrays(), layers=self._layers(), cost=6 * BATCH * self._count(),
            framework=f"pytorch {self._torch.__version__}",
        )  # fmt: skip
        with Node(None, SWARM, name, spool, profile, watch=["*.weight"], tell=print) as node:
            for job in node.jobs():
                self._begin(job)
                for _ in range(job.steps):
                    if not node.step(*self._step()):
                        break
                scores, outputs = self._evaluate()
                node.report(scores, self._arrays(), outputs)
                score = f"accuracy {scores['valid_accuracy']:.3f}"
                print(f"{name}: round {job.round}, {job.steps} steps from {job.start}, {score}")

    def _begin(self, job: Job) -> None:
        if job.start == "fresh":
            self._renew()
        elif job.weights is not None:
            # Whoever takes over weights starts with new momentum.
            tensors = {path: self._torch.as_tensor(array) for path, array in job.weights.items()}
            self._net.load_state_dict(tensors)
        self._rate = job.genes["learning_rate"]
        self._optimizer = self._torch.optim.SGD(self._net.parameters(), self._rate, momentum=0.9)

    def _renew(self) -> None:
        nn, sizes = self._torch.nn, [64, *[self._width] * DEPTH]
        pairs = list(zip(sizes, sizes[1:], strict=False))
        hidden = [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU())]
        self._net = nn.Sequential(*hidden, nn.Linear(self._width, 10))

    def _step(self) -> tuple[float, float]:
        """One step; its loss and gradient norm."""
        x, y = self._train
        chosen = self._torch.randint(len(x), (BATCH,), generator=self._draws)
        self._optimizer.zero_grad()
        loss = self._torch.nn.functional.cross_entropy(self._net(x[chosen]), y[chosen])
        loss.backward()
        norm = self._torch.nn.utils.get_total_norm([p.grad for p in self._net.parameters()])
        self._optimizer.step()
        return float(loss), float(norm)

    def _evaluate(self) -> tuple[dict[str, float], list[list[float]]]:
        """Scores, and what the network makes of the examples that describe members."""
        x, y = self._valid
        with self._torch.no_grad():
            logits = self._net(x)
        loss = float(self._torch.nn.functional.cross_entropy(logits, y))
        found = logits.argmax(1)
        scores = {"valid_loss": loss, "valid_accuracy": float((found == y).float().mean())}
        scores["valid_f1"] = f1(found.numpy(), y.numpy())
        return scores, logits.softmax(1)[:32].tolist()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {path: tensor.numpy() for path, tensor in self._net.state_dict().items()}

    def _layers(self) -> list[Layer]:
        return [
            Layer(name, type(layer).__name__,
                  tuple(getattr(layer, size) for size in ("in_features", "out_features")
                        if hasattr(layer, size)))
            for name, layer in self._net.named_children()
        ]  # fmt: skip

    def _count(self) -> int:
        return sum(p.numel() for p in self._net.parameters())


def f1(found: np.ndarray, wanted: np.ndarray) -> float:
    """The mean over the classes of the harmonic mean of precision and recall."""
    each = []
    for number in np.unique(wanted):
        hits = np.sum((found == number) & (wanted == number))
        each.append(2 * hits / (np.sum(found == number) + np.sum(wanted == number)))
    return float(np.mean(each))


if __name__ == "__main__":
    main()
