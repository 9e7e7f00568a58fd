"""Commands for another machine than that of the run: follow it, and try whether it is heard."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from swarmjax.bus import open_bus
from swarmjax.channels import BusError
from swarmjax.errors import InputError
from swarmjax.mirror import follow
from swarmjax.probe import probe

_Bus = Annotated[
    str | None,
    tyro.conf.arg(metavar="URL", help_behavior_hint="(default: that in SWARMJAX_BUS)"),
]


@dataclass(frozen=True)
class Follow:
    """Stores a run that goes on elsewhere, over the bus, until it is over; for its dashboard.

    Attributes:
        directory: the copy; an unfinished one goes on where it was.
        bus: of the run; better in the environment, where nobody else sees a password.
        swarm: name of the run's swarm.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    bus: _Bus = None
    swarm: str = "swarm"


@dataclass(frozen=True)
class Node:
    """Tells whether a swarm waits for nodes at the bus, and how far this machine's clock is off.

    It joins nothing: a node is a program of yours, see experiments/pytorch_node.py.

    Attributes:
        bus: of the run; better in the environment, where nobody else sees a password.
        swarm: name of the swarm.
        wait: seconds to wait for its answer.
    """

    bus: _Bus = None
    swarm: str = "swarm"
    wait: float = 10.0


Elsewhere = Follow | Node


def run_follow(command: Follow) -> None:
    """Follows, and tells what happens to the bus."""
    bus = open_bus(command.bus)

    def tell(text: str) -> None:
        print(f"swarmjax: {text}", file=sys.stderr)

    print(f"storing swarm {command.swarm} in {command.directory}", file=sys.stderr)
    follow(command.directory, bus, command.swarm, tell=tell)


def run_node(command: Node) -> None:
    """Asks the swarm, and tells what it answers."""
    try:
        heard = probe(open_bus(command.bus), command.swarm, command.wait)
    except BusError as error:
        raise InputError(f"the bus cannot be reached: {error}") from None
    # The wall clock of now, against the controller's.
    offset = (heard.offset.offset + time.monotonic_ns() - time.time_ns()) / 1e9
    print(
        f"swarm {command.swarm} answers in {1000 * heard.fastest:.1f} ms; its clock is "
        f"{offset:+.4f} s from this one's, give or take {heard.offset.bound / 1e9:.4f} s"
    )
