"""One program of a comparison as a process: started, heard, bounded in time, and ended whole."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

import psutil

from paper.measure import ROOT

# A program that says more than this says nonsense.
_LONGEST, _MOST = 2000, 200_000

# Between asking a program to end and ending it.
_GRACE = 10.0


class PeerError(RuntimeError):
    """A program died, or did not do what it should; the message is a line."""


class Line(NamedTuple):
    """How a search stood.

    Attributes:
        arrived: seconds since the process was started.
        search: its number, from 0.
        seconds: since it began, by the program's clock.
        member_steps: taken by then.
        valid: best validation accuracy so far, None before the first.
        test: accuracy of that network; None until the search is over.
    """

    arrived: float
    search: int
    seconds: float
    member_steps: int
    valid: float | None
    test: float | None


class Run(NamedTuple):
    """What a process did.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: of the process and all that it started and that still ran or was waited for,
            when its first search was over, or its time was up.
        finished: whether it ended by itself; False if its time was up.
        lines: what it said.
    """

    seconds: float
    cpu_seconds: float
    finished: bool
    lines: list[Line]


def run(
    command: Sequence[str], limit: float, environment: Mapping[str, str], searches: int = 1
) -> Run:
    """Runs a program that prints lines as `peer_protocol.Report` does, for `limit` seconds at most.

    Raises:
        PeerError: it died, printed something else, or ended without a result of every search.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT,
            env=dict(environment), start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
        heard: queue.Queue[tuple[float, str] | None] = queue.Queue()
        listener = threading.Thread(target=_listen, args=(process.stdout, heard), daemon=True)
        listener.start()
        lines: list[Line] = []
        try:
            finished, used = _hear(heard, lines, start, limit, process)
            seconds = time.perf_counter() - start
        finally:
            _end(process)
            listener.join(_GRACE)
        if finished and process.returncode:
            log.seek(0)
            raise PeerError(_last(log.read()) or f"exit {process.returncode}")
    if finished and sum(line.test is not None for line in lines) != searches:
        raise PeerError(f"ended without the results of {searches} searches")
    return Run(seconds, used, finished, lines)


def parse(text: str, arrived: float) -> Line:
    """What a program said in one line; PeerError if it is nothing that it should say."""
    try:
        said = json.loads(text)
        line = Line(arrived, **{"valid": None, "test": None} | said)
    except (ValueError, TypeError, RecursionError):
        raise PeerError(f"printed nonsense: {text[:80]!r}") from None
    shares = [share for share in (line.valid, line.test) if share is not None]
    counts = [line.search, line.member_steps]
    right = all(type(count) is int and 0 <= count < 2**53 for count in counts)
    right &= _number(line.seconds) and 0 <= line.seconds
    right &= all(_number(share) and 0 <= share <= 1 for share in shares)
    if not right:
        raise PeerError(f"printed nonsense: {text[:80]!r}")
    return line


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process, of those that descend from it, and of those that any of these waited for."""
    used = 0.0
    with contextlib.suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                used += sum(each.cpu_times()[:4])
    return used


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _listen(stdout: IO[str], heard: queue.Queue[tuple[float, str] | None]) -> None:
    with stdout:
        while text := stdout.readline(_LONGEST):
            heard.put((time.perf_counter(), text))
    heard.put(None)


def _hear(
    heard: queue.Queue[Any], lines: list[Line], start: float, limit: float, process: Any
) -> tuple[bool, float]:
    """Collects lines until the process ends, or its time is up and the first is False.

    The second is its `Run.cpu_seconds`.
    """
    used, watched = None, psutil.Process(process.pid)
    while True:
        left = start + limit - time.perf_counter()
        try:
            said = heard.get(timeout=max(0.0, left))
            if said is None:
                process.wait(max(0.0, start + limit - time.perf_counter()))
                return True, used or 0.0
        except (queue.Empty, subprocess.TimeoutExpired):
            return False, cpu_seconds(watched) if used is None else used
        lines.append(parse(said[1], said[0] - start))
        if used is None and lines[-1].test is not None:
            used = cpu_seconds(watched)
        if len(lines) > _MOST:
            raise PeerError(f"printed more than {_MOST} lines")
        last = lines[-2:]
        if len(last) > 1 and last[0][1:4:2] > last[1][1:4:2]:
            raise PeerError(f"took back what it had said: {said[1][:80]!r}")


def _end(process: subprocess.Popen[str]) -> None:
    """Ends what is left of a process, and whatever it started."""
    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        started = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    process.kill()
    process.wait()
    for other in started:
        with contextlib.suppress(psutil.Error):
            other.kill()
    psutil.wait_procs(started, timeout=_GRACE)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
