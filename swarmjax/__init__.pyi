"""Train, watch and steer a swarm of neural networks on one host, as vectorised JAX programs."""

from . import allocate, anomaly, diversity, evolve, fitness, models, similarity, tasks, tune
from .allocate import proportional, softmax
from .bandits import bandit
from .cli import main
from .constraints import constrained
from .diversity import lineage_cap, niches, novelty, shared
from .evolve import binary, exploit, mutate_structure, regularised, tournament
from .experiment import Experiment
from .fitness import weighted
from .halving import hyperband, successive_halving
from .healing import heal
from .islands import islands
from .mating import breed, mutate
from .mlp import MLP
from .outcome import DivergedError, Result
from .pareto import pareto
from .policy import PlanError, chain
from .presets import preset
from .progress import Terminal
from .projection import projected_gain
from .replaying import replay
from .result import Best, take_out
from .robustness import noisy
from .run import run
from .samplers import optuna_sampler
from .space import Space, choice, log_uniform, structure, uniform
from .stopping import StoppedError
from .stored import open_run
from .topology import migrate
from .transformer import Transformer
from .tune import differential, grid, perturb, random, resample, sobol
from .types import Frame, InputError, Plan, Policy

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
    "StoppedError",
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
    "islands",
    "lineage_cap",
    "log_uniform",
    "main",
    "migrate",
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
