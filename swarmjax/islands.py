"""Many hosts, one swarm: a run whose members train on islands, in Ray."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarmjax import resources
from swarmjax.archipelago import Archipelago
from swarmjax.crew import RayCrew, alive, places
from swarmjax.experiment import Setup
from swarmjax.island import Settings
from swarmjax.planner import Choices
from swarmjax.types import InputError
from swarmjax.watch import Wanted

# What a Ray that is started here is told: to listen on the loopback address alone, to report to
# nobody, and that training is no work for the background, which it otherwise takes it for.
LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
# Bytes of its object store; what does not fit goes to the disk.
_STORE = 2**28


@dataclass(frozen=True)
class Islands:
    """Islands that a run trains on; made by `islands`.

    Attributes:
        count: how many.
        address: of the Ray cluster; None: one is started on this machine.
        cpus: that each takes; None: as many as all of them find.
        gpus: likewise.
        patience: seconds without a sign of life after which an island is given up.
    """

    count: int
    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None
    patience: float = 120.0

    def make(self, setup: Setup, choices: Choices | None = None) -> Archipelago:
        """The trainer of a run, with its islands begun.

        Raises:
            InputError: Ray is missing or cannot be reached, or cannot run so many islands.
        """
        experiment = setup.experiment
        if experiment.nodes:
            raise InputError("islands and nodes do not go together yet; lower nodes to 0")
        if self.count > experiment.members:
            raise InputError(
                f"{self.count} islands need a member each, and there are {experiment.members}"
            )
        settings = Settings(
            setup.recipe, setup.task, experiment.members, experiment.budget, experiment.seed,
            experiment.storage,
            Wanted(experiment.window, tuple(experiment.trace), tuple(experiment.parameters)),
            1 / self.count, setup.even,
        )  # fmt: skip
        line, leave = connect(self)
        try:
            cpus, gpus = _each(self)
            crew = RayCrew(settings, cores=cpus, gpus=gpus, patience=self.patience, leave=leave)
            made = Archipelago(crew, settings, self.count, choices, [line])
            crew.say = made.say
        except BaseException:
            leave()
            raise
        return made


def islands(
    count: int,
    address: str | None = None,
    *,
    cpus: int | None = None,
    gpus: float | None = None,
    patience: float = 120.0,
) -> Islands:
    """What `run(..., trainer=islands(2))` trains on: vectorised swarms in actors of Ray.

    Members are the same to the last bit wherever they train, on hosts of the same kind. Weights,
    Plans and Frames go between the processes of Ray as Python objects, which can run code: use a
    cluster only with those whom you trust.

    Args:
        count: islands to begin with, from 1; usually one for each host. Hosts that join the cluster
            later get islands of their own.
        address: of a Ray cluster that runs: `auto`, or HOST:PORT; None: a Ray of its own is started
            on this machine, which listens on its loopback address only.
        cpus: cores that each takes; None: the most with which all of them find a place.
        gpus: GPUs that each takes; None: likewise.
        patience: seconds without a sign of life after which an island is given up, and begun anew
            elsewhere; a crash is noticed at once.

    Raises:
        InputError: these numbers cannot be.
    """
    if type(count) is not int or not 1 <= count <= 4096:
        raise InputError(f"islands must be a whole number from 1 to 4096, got {count!r}")
    if address is not None and not (isinstance(address, str) and address.strip()):
        raise InputError(f"address must be auto or HOST:PORT, got {address!r}")
    if cpus is not None and (type(cpus) is not int or cpus < 1):
        raise InputError(f"cpus must be a whole number from 1, got {cpus!r}")
    for name, value in (("gpus", gpus), ("patience", patience)):
        if value is not None and not (isinstance(value, int | float) and 0 <= value < 1e9):
            raise InputError(f"{name} must be a number >= 0, got {value!r}")
    return Islands(count, address, cpus, gpus, patience)


def connect(wanted: Islands):
    """Connects to Ray: a line that tells to which, and what closes what was opened here.

    Raises:
        InputError: Ray is missing, or there is none at that address.
    """
    _check_installed()
    ray: Any
    if "ray" in sys.modules and (ray := importlib.import_module("ray")).is_initialized():
        _carry(ray)
        return "islands use the Ray that this process is connected to", lambda: None
    if wanted.address is None:
        os.environ.update(LOCAL)
    ray = importlib.import_module("ray")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if wanted.address is None:
        cores = max(resources.cores(), wanted.count * (wanted.cpus or 1))
        # `local`: one of its own, whatever other Ray runs on this machine.
        options |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
        options["object_store_memory"] = _STORE
    else:
        options["address"] = wanted.address
    try:
        with warnings.catch_warnings():
            # Ray's processes are forked beside JAX's threads, and run other programs at once.
            warnings.simplefilter("ignore")
            ray.init(**options)
    except Exception as error:
        place = "on this machine" if wanted.address is None else f"at {wanted.address}"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"no Ray {place}: {first[:200]}; see `ray status`, or leave --address out to start one"
        ) from error
    _carry(ray)
    at = ray.get_runtime_context().gcs_address
    begun = "started a Ray of its own, for this machine only," if wanted.address is None else "Ray"
    return f"{wanted.count} islands: {begun} at {at}", ray.shutdown


def _check_installed() -> None:
    if importlib.util.find_spec("ray") is None:
        raise InputError("islands need Ray, which is not installed: pip install 'swarmjax[ray]'")


def _carry(ray: Any) -> None:
    """Lets islands have what an experiment's file defines, which they could not import."""
    for name, module in list(sys.modules.items()):
        if name.startswith("_experiment_"):
            ray.cloudpickle.register_pickle_by_value(module)


def _each(wanted: Islands) -> tuple[int, float]:
    """Cores and GPUs of each island.

    Raises:
        InputError: not all of them find so many.
    """
    ray: Any = importlib.import_module("ray")
    hosts = list(alive(ray).values())
    cpus = wanted.cpus or largest([int(host.get("CPU", 0)) for host in hosts], wanted.count)
    gpus = wanted.gpus
    if gpus is None:
        gpus = largest([int(host.get("GPU", 0)) for host in hosts], wanted.count)
    room = places(hosts, {"CPU": cpus, "GPU": gpus})
    if not cpus or room < wanted.count:
        raise InputError(
            f"{wanted.count} islands of {cpus} CPUs and {gpus:g} GPUs do not fit: Ray has "
            f"{sum(host.get('CPU', 0) for host in hosts):g} CPUs and "
            f"{sum(host.get('GPU', 0) for host in hosts):g} GPUs on {len(hosts)} hosts; "
            "lower islands, cpus or gpus"
        )
    return cpus, gpus


def largest(amounts: Sequence[int], count: int) -> int:
    """The most that each of `count` can have of what hosts have; 0 where it is not enough."""
    fitting = (
        k for k in range(max(amounts, default=0), 0, -1) if sum(a // k for a in amounts) >= count
    )
    return next(fitting, 0)
