"""A search that several processes make together, one for each core."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from paper.peer_protocol import Experiment, Report


class Share:
    """What a process says that does a part of a search: see `gather`."""

    def __init__(self) -> None:
        """Takes the standard output for itself, and says that it is ready."""
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._print(ready=True)

    def searches(self) -> Iterator[int]:
        """Numbers of the searches, each when it is to begin."""
        for number, _ in enumerate(sys.stdin):
            yield number
            self._print(done=True)

    def tell(self, steps: int, valid: float, network: str | None) -> None:
        """As `Report.tell`; `network` is None where it is no better than others of this process."""
        self._print(steps=steps, valid=valid, network=network)

    def _print(self, **line: Any) -> None:
        print(json.dumps(line), file=self._out, flush=True)


def gather(commands: Sequence[Sequence[str]], experiment: Experiment) -> None:
    """Searches by several processes at a time, which end by themselves or when the budget is spent.

    Raises:
        RuntimeError: one of them died.
    """
    report, heard = Report(experiment), queue.Queue()
    shares = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    for share in shares:
        threading.Thread(target=_listen, args=(share, heard), daemon=True).start()
    try:
        # Each says that it is ready, and no more until it is told to begin.
        for _ in shares:
            _next(heard)
        working = 0
        for _ in range(experiment.searches):
            # What ended the search before would count as having ended this one.
            while working:
                working -= "done" in _next(heard)
            report.begin()
            for share in shares:
                print(file=share.stdin, flush=True)
            working = _search(report, heard, len(shares))
            report.end()
    finally:
        for share in shares:
            share.kill()
        for share in shares:
            share.wait()


def _search(report: Report, heard: queue.Queue[Any], working: int) -> int:
    """One search; how many processes have not said yet that they are done."""
    while working and not report.spent:
        line = _next(heard)
        if "done" in line:
            working -= 1
        else:
            report.tell(line["steps"], line["valid"], line["network"])
    return working


def _next(heard: queue.Queue[Any]) -> dict[str, Any]:
    line = heard.get()
    if line is None:
        raise RuntimeError("a process that did a part of the search died")
    return line


def _listen(share: subprocess.Popen[str], heard: queue.Queue[Any]) -> None:
    for line in share.stdout or ():
        heard.put(json.loads(line))
    heard.put(None)
