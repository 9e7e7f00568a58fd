"""When checkpoints are made, and that nobody waits for them but who asks to."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from swarmjax import checkpoints, holding
from swarmjax.checkpoints import Checkpoint
from swarmjax.errors import one_line
from swarmjax.naming import Named

# A checkpoint is not made before so many times as long as the last one took have passed.
_RARE = 80

Make = Callable[[], tuple[Named, dict[str, Any]]]


class Keeper:
    """Makes checkpoints of a run in a thread of its own.

    Args:
        writer: of the run; while it is behind no checkpoint is made, since none may be ahead of the
            log of Plans.
        seconds: that pass at least from one to the next; 0: after every round.
        keep: how many are kept, the latest.
        tell: told in a line what failed.
    """

    def __init__(self, writer: Any, seconds: float, keep: int, tell: Callable[[str], None]):
        self._writer, self._seconds, self._keep, self._tell = writer, seconds, keep, tell
        self._pool, self._job = ThreadPoolExecutor(1, "checkpoints"), None
        self._due, self._begun = time.monotonic() + seconds, 0.0
        self.latest: int | None = None

    def after(self, round: int, make: Make) -> None:
        """Begins a checkpoint of what `make` copies if one is due, and none is being written."""
        self._collect(wait=self._seconds == 0)
        if self._job is None and time.monotonic() >= self._due and not self._writer.behind:
            self._begin(round, make)

    def now(self, round: int, make: Make) -> bool:
        """Makes a checkpoint and waits for it; whether there is one of this round."""
        self._collect(wait=True)
        if self.latest != round and not self._writer.behind:
            self._begin(round, make)
            self._collect(wait=True)
        return self.latest == round

    def hash(self, round: int, trainer: Any) -> None:
        """Keeps what tells the networks of the last round from others, for who replays it."""
        self._writer.digests(round, holding.digests(trainer.arrays()))

    def close(self) -> None:
        """Waits for what is being written."""
        self._collect(wait=True)
        self._pool.shutdown()

    def _begin(self, round: int, make: Make) -> None:
        self._begun = time.monotonic()
        arrays, facts = make()
        self._job = self._pool.submit(self._write, Checkpoint(round, arrays, facts))

    def _write(self, checkpoint: Checkpoint) -> int:
        checkpoints.save(self._writer.directory, checkpoint, self._keep)
        self._writer.digests(checkpoint.round, holding.digests(checkpoint.arrays))
        return checkpoint.round

    def _collect(self, wait: bool) -> None:
        """Takes note of what became of the checkpoint that was being written."""
        job: Future[int] | None = self._job
        if job is None or not (wait or job.done()):
            return
        self._job = None
        try:
            self.latest = job.result()
        except Exception as error:  # The run is worth more than any checkpoint of it.
            what = one_line(f"{type(error).__name__}: {error}")
            self._tell(f"a checkpoint could not be written: {what}; it is tried again")
        if self._seconds:
            took = time.monotonic() - self._begun
            self._due = time.monotonic() + max(self._seconds, _RARE * took)
