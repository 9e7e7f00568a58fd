"""A browser, and a real swarm to look at."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paper.browsing import chromium
from paper.measure import ROOT, MissingData


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
def real(tmp_path, request) -> Iterator[Path]:
    """The directory of a real swarm that has just begun; its budget may be a parameter."""
    budget = getattr(request, "param", 10_000)
    command = [sys.executable, "-m", "swarmjax", "run", "spirals", "--members", "12"]
    command += ["--budget", str(budget), "--directory", str(tmp_path / "spirals")]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    with (tmp_path / "run.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    while not (tmp_path / "spirals" / "swarm.db").exists():
        assert process.poll() is None, (tmp_path / "run.log").read_text()
        time.sleep(0.1)
    yield tmp_path / "spirals"
    process.terminate()
    process.wait(10)
