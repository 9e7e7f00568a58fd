"""Train, watch and steer a swarm of neural networks on one host, as vectorised JAX programs."""

from swarmjax import allocate, evolve, fitness, models, tasks, tune
from swarmjax.allocate import proportional, softmax
from swarmjax.cli import main
from swarmjax.evolve import exploit
from swarmjax.experiment import Experiment
from swarmjax.fitness import weighted
from swarmjax.mlp import MLP
from swarmjax.policy import PlanError, chain
from swarmjax.presets import preset
from swarmjax.progress import Terminal
from swarmjax.result import Best
from swarmjax.run import DivergedError, Result, replay, run
from swarmjax.space import Space, choice, log_uniform, structure, uniform
from swarmjax.store import open_run
from swarmjax.transformer import Transformer
from swarmjax.tune import grid, perturb, random
from swarmjax.types import Frame, InputError, Plan, Policy

__all__ = [
    "MLP",
    "Best",
    "DivergedError",
    "Experiment",
    "Frame",
    "InputError",
    "Plan",
    "PlanError",
    "Policy",
    "Result",
    "Space",
    "Terminal",
    "Transformer",
    "allocate",
    "chain",
    "choice",
    "evolve",
    "exploit",
    "fitness",
    "grid",
    "log_uniform",
    "main",
    "models",
    "open_run",
    "perturb",
    "preset",
    "proportional",
    "random",
    "replay",
    "run",
    "softmax",
    "structure",
    "tasks",
    "tune",
    "uniform",
    "weighted",
]
