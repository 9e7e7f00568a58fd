"""Who may steer: whoever knows the write token that lies in the run directory."""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

FILE = "steer.token"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def write_token(directory: Path) -> str | None:
    """The token of a run, made on the first call; None where it can be neither made nor trusted.

    It is trusted only in a plain file that nobody but its owner, this user, can read or write.
    """
    path = directory / FILE
    with contextlib.suppress(OSError):
        _make(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        facts = os.fstat(file)
        private = stat.S_ISREG(facts.st_mode) and not facts.st_mode & 0o077
        if not private or facts.st_uid != os.geteuid():
            return None
        text = os.read(file, 64).decode("ascii", errors="replace").strip()
    finally:
        os.close(file)
    return text if _TOKEN.fullmatch(text) else None


def may_steer(arguments: Mapping[str, Sequence[bytes]], token: str | None) -> bool:
    """Whether the arguments of the request for a page hold the token."""
    given = list(arguments.get("token", ()))
    if token is None or len(given) != 1:
        return False
    return hmac.compare_digest(bytes(given[0]), token.encode())


def _make(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w") as opened:
        opened.write(secrets.token_urlsafe(32) + "\n")
