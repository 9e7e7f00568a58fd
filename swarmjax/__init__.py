"""Train, watch and steer a swarm of neural networks on one host, as vectorised JAX programs."""

from swarmjax import allocate, evolve, fitness, models, tasks, tune
from swarmjax.allocate import proportional, softmax
from swarmjax.cli import main
from swarmjax.constraints import constrained
from swarmjax.evolve import exploit
from swarmjax.experiment import Experiment
from swarmjax.fitness import weighted
from swarmjax.halving import hyperband, successive_halving
from swarmjax.mating import breed, mutate
from swarmjax.mlp import MLP
from swarmjax.pareto import pareto
from swarmjax.policy import PlanError, chain
from swarmjax.presets import preset
from swarmjax.progress import Terminal
from swarmjax.projection import projected_gain
from swarmjax.result import Best
from swarmjax.robustness import noisy
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
    "breed",
    "chain",
    "choice",
    "constrained",
    "evolve",
    "exploit",
    "fitness",
    "grid",
    "hyperband",
    "log_uniform",
    "main",
    "models",
    "mutate",
    "noisy",
    "open_run",
    "pareto",
    "perturb",
    "preset",
    "projected_gain",
    "proportional",
    "random",
    "replay",
    "run",
    "softmax",
    "structure",
    "successive_halving",
    "tasks",
    "tune",
    "uniform",
    "weighted",
]
