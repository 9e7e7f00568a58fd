import os
import subprocess
import sys

import pytest

from swarmjax import tenure
from swarmjax.types import InputError


def test_only_one_holds_a_directory(tmp_path):
    held = tenure.hold(tmp_path)
    with pytest.raises(InputError, match="another trainer is at work in"):
        tenure.hold(tmp_path)
    os.close(held)
    os.close(tenure.hold(tmp_path))


def test_a_killed_process_holds_nothing(tmp_path):
    source = "import os, sys; from pathlib import Path; from swarmjax import tenure\n"
    source += "tenure.hold(Path(sys.argv[1])); print('held', flush=True); os.read(0, 1)"
    command = [sys.executable, "-c", source, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another trainer"):
            tenure.hold(tmp_path)
        process.kill()
    os.close(tenure.hold(tmp_path))


def test_a_place_that_cannot_be_written(closed_directory):
    with pytest.raises(OSError, match="ermission"):
        tenure.hold(closed_directory)
