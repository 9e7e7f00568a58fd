"""A browser, and a real swarm to look at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paper.browsing import Server, chromium
from paper.measure import ROOT, MissingData
from swarmjax import stored
from swarmjax.types import InputError


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium under playwright; without it the tests are skipped, but not in CI."""
    with contextlib.ExitStack() as stack:
        try:
            launched = stack.enter_context(chromium())
        except MissingData as missing:
            assert not os.environ.get("CI"), "CI needs Chromium for the browser tests"
            pytest.skip(str(missing))
        # One context, so that later pages find the scripts in its cache.
        yield launched.new_context(viewport={"width": 1440, "height": 900})


@pytest.fixture
def trainer(tmp_path, request) -> Iterator[subprocess.Popen]:
    """The process of a real swarm that has just begun; its budget may be a parameter."""
    budget = getattr(request, "param", 40_000)
    command = [sys.executable, "-m", "swarmjax", "run", "spirals", "--members", "12"]
    command += ["--budget", str(budget), "--directory", str(tmp_path / "spirals")]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    with (tmp_path / "run.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    yield process
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(60)


@pytest.fixture
def real(tmp_path, trainer) -> Path:
    """Its directory, which can be read."""
    while trainer.poll() is None:
        with contextlib.suppress(InputError):
            stored.open_run(tmp_path / "spirals").close()
            return tmp_path / "spirals"
        time.sleep(0.05)
    pytest.fail((tmp_path / "run.log").read_text())


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """Starts dashboards, which end with the test; their logs must be clean."""
    with contextlib.ExitStack() as stack:

        def start(directory: Path) -> Server:
            server = Server(directory, directory.parent / "server.log")
            stack.callback(server.stop)
            return server

        yield start
