"""One trainer to a run directory: a lock that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from swarmjax.errors import InputError

FILE = "trainer.lock"


def hold(directory: Path) -> int:
    """Becomes the trainer of a directory until the number that is returned is closed by `os.close`.

    Raises:
        InputError: another process, or another run of this one, is.
        OSError: the directory cannot be written to.
    """
    number = os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise InputError(
            f"another trainer is at work in {directory}; wait for it, stop it, or choose another "
            "--directory"
        ) from None
    return number
