"""Train, watch and steer a swarm of neural networks on one host, as vectorised JAX programs."""

from swarmjax import allocate, anomaly, diversity, evolve, fitness, models, similarity, tasks, tune
from swarmjax.allocate import proportional, softmax
from swarmjax.bandits import bandit
from swarmjax.cli import main
from swarmjax.constraints import constrained
from swarmjax.diversity import lineage_cap, niches, novelty, shared
from swarmjax.evolve import binary, exploit, mutate_structure, regularised, tournament
from swarmjax.experiment import Experiment
from swarmjax.fitness import weighted
from swarmjax.halving import hyperband, successive_halving
from swarmjax.healing import heal
from swarmjax.mating import breed, mutate
from swarmjax.mlp import MLP
from swarmjax.pareto import pareto
from swarmjax.policy import PlanError, chain
from swarmjax.presets import preset
from swarmjax.progress import Terminal
from swarmjax.projection import projected_gain
from swarmjax.result import Best, take_out
from swarmjax.robustness import noisy
from swarmjax.run import DivergedError, Result, replay, run
from swarmjax.samplers import optuna_sampler
from swarmjax.space import Space, choice, log_uniform, structure, uniform
from swarmjax.store import open_run
from swarmjax.transformer import Transformer
from swarmjax.tune import differential, grid, perturb, random, resample, sobol
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
    "anomaly",
    "bandit",
    "binary",
    "breed",
    "chain",
    "choice",
    "constrained",
    "differential",
    "diversity",
    "evolve",
    "exploit",
    "fitness",
    "grid",
    "heal",
    "hyperband",
    "lineage_cap",
    "log_uniform",
    "main",
    "models",
    "mutate",
    "mutate_structure",
    "niches",
    "noisy",
    "novelty",
    "open_run",
    "optuna_sampler",
    "pareto",
    "perturb",
    "preset",
    "projected_gain",
    "proportional",
    "random",
    "regularised",
    "replay",
    "resample",
    "run",
    "shared",
    "similarity",
    "sobol",
    "softmax",
    "structure",
    "successive_halving",
    "take_out",
    "tasks",
    "tournament",
    "tune",
    "uniform",
    "weighted",
]
