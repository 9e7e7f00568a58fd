"""Training nodes that train nothing much, as threads, for tests."""

import threading

import numpy as np

from swarmjax.directives import Stop
from swarmjax.nodes import Node, Profile


class Toy:
    """A node whose weight moves to 1 at the speed of its learning rate.

    `started` are the weights of each job's beginning, `genes` those of each job, `orders` how each
    began; `hold` is set as long as it may go on.
    """

    def __init__(self, bus, folder, name, size=3, genes=None, rate=0.1, heartbeat=0.05, **profile):
        self.name, self.jobs, self.started, self.error = name, [], [], None
        self.hold, self.silent = threading.Event(), False
        self.hold.set()
        self._rate, self._weights = rate, {"w": np.zeros(size, np.float32)}
        genes = {"learning_rate": rate, "width": 16} if genes is None else genes
        given = Profile(
            genes, self._weights, **{"obeys": ("learning_rate",), "cost": 50.0} | profile
        )
        self.node = Node(bus, "s", name, folder / f"{name}.spool", given, heartbeat=heartbeat)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            for job in self.node.jobs(600):
                self._do(job)
        except Exception as error:
            self.error = error

    def _do(self, job):
        self.jobs.append(job)
        self._rate = job.genes.get("learning_rate", self._rate)
        if job.start == "fresh":
            self._weights = {"w": np.zeros_like(self._weights["w"])}
        elif job.weights is not None:
            self._weights = job.weights
        self.started.append(self._weights["w"].copy())
        for _ in range(job.steps):
            self._weights["w"] += self._rate * (1 - self._weights["w"])
            self.node.step(self.loss())
            self.hold.wait(60)
        if not self.silent:
            self.node.report({"valid_loss": self.loss(), "valid_accuracy": 1 - self.loss()},
                             self._weights)  # fmt: skip

    def loss(self):
        return float(np.mean((1 - self._weights["w"]) ** 2))

    def _end(self):
        """Ends the loop at once, as a directive would."""
        self.hold.set()
        self.node._stopped = True
        self.node._orders.put(Stop(node=self.name, incarnation=0, reason="over"))
        self._thread.join()

    def vanish(self):
        """No goodbye: as if its process were killed."""
        self._end()
        self.node._outbox.close(0)
        self.node._listener.close()
        self.node._spool.close()

    def close(self):
        self._end()
        self.node.close()
        assert self.error is None
