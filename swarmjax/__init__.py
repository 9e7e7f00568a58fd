"""Train, watch and steer a swarm of neural networks on one host, as vectorised JAX programs."""

from swarmjax import allocate, evolve, fitness, models, tasks, tune
from swarmjax.allocate import proportional, softmax
from swarmjax.evolve import exploit
from swarmjax.experiment import Experiment
from swarmjax.fitness import weighted
from swarmjax.models import MLP
from swarmjax.policy import chain
from swarmjax.presets import preset
from swarmjax.run import Best, Result, run
from swarmjax.space import Space, choice, log_uniform, structure, uniform
from swarmjax.store import open_run
from swarmjax.tune import grid, perturb, random
from swarmjax.types import Frame, InputError, Plan, Policy

__all__ = [
    "MLP",
    "Best",
    "Experiment",
    "Frame",
    "InputError",
    "Plan",
    "Policy",
    "Result",
    "Space",
    "allocate",
    "chain",
    "choice",
    "evolve",
    "exploit",
    "fitness",
    "grid",
    "log_uniform",
    "models",
    "open_run",
    "perturb",
    "preset",
    "proportional",
    "random",
    "run",
    "softmax",
    "structure",
    "tasks",
    "tune",
    "uniform",
    "weighted",
]
