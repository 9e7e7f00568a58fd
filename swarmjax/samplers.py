"""Genes from Optuna's samplers, by ask and tell."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from swarmjax import fitness
from swarmjax.policy import children, generator
from swarmjax.space import Choice, Space
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy

Sampler = Callable[..., Any]
NAMES = ("tpe", "cmaes", "gp", "nsga2")


class Trials(NamedTuple):
    """Networks so far, in the order of their birth.

    Attributes:
        birth: `[M]` int32 as in `Frame`.
        value: `[M]` last known fitness; -inf once it diverged.
        genome: gene -> `[M]` its last genes.
    """

    birth: np.ndarray
    value: np.ndarray
    genome: dict[str, np.ndarray]


def optuna_sampler(
    sampler: str | Sampler | None = None, goal: fitness.Goal | None = None, limit: int = 1000
) -> Policy:
    """Takes the genes of new networks from a sampler of Optuna.

    Every network that took a step is a trial, whose value is its fitness after its last. Networks
    that start fresh, as all do before the first round, get all their genes; those that take over
    another's weights keep their structural ones. At every update a study is built anew from the
    trials, so a sampler that stores things in its own trials forgets them: CMA-ES starts from the
    trials (warm start, Nomura et al. 2021), NSGA-II takes them for its first generation. Stands
    after the policies that write `plan.parent` and `plan.fresh`; runs on the host. Source: Akiba et
    al. 2019, Optuna, arXiv:1907.10902.

    Args:
        sampler: `tpe` (None), `cmaes`, `gp` or `nsga2`, or what makes one of a seed: a class of
            `optuna.samplers`, or a `functools.partial` of it with its options.
        goal: fitness, `fitness.default` unless given.
        limit: latest trials that are kept.
    """
    _check(sampler, limit)
    make, measure = _maker(sampler or "tpe"), goal or fitness.default
    with _quiet():
        _made(make, 0, [])

    def init(frame: Frame) -> Trials:
        measure(frame)
        genome = {name: np.asarray(values)[:0] for name, values in frame.genome.items()}
        return Trials(np.zeros(0, np.int32), np.zeros(0, np.float32), genome)

    def update(key: Key, plan: Plan, frame: Frame, state: Trials) -> tuple[Plan, Trials]:
        score = np.asarray(fitness.worst_if_dead(measure(frame), frame))
        trials = record(score, frame, state, limit)
        fresh = np.asarray(plan.fresh | (frame.round == 0))
        asked = np.flatnonzero(fresh | children(plan))
        genome = {name: np.array(values) for name, values in plan.genome.items()}
        seed = int(generator(key).integers(2**31))
        found = suggest(make, seed, frame.space, trials, fresh[asked])
        for slot, genes in zip(asked, found, strict=True):
            for name, value in genes.items():
                genome[name][slot] = frame.space[name].clip(value)
        return plan._replace(genome=genome), trials

    shown = "" if goal is None else f", goal={goal.__name__}"
    name, writes = f"optuna_sampler({_name(sampler)}{shown})", frozenset(("genome",))
    return Policy(init, update, name, host=True, writes=writes)


def _check(sampler: Any, limit: Any) -> None:
    if isinstance(sampler, str) and sampler not in NAMES:
        raise InputError(f"no sampler is called {sampler!r}; known: {', '.join(NAMES)}")
    if not (sampler is None or isinstance(sampler, str) or callable(sampler)):
        raise InputError(
            f"sampler must be a name or make a sampler of a seed, got {type(sampler).__name__}; "
            "pass a class such as optuna.samplers.TPESampler, not an object"
        )
    if not isinstance(limit, int) or limit < 1:
        raise InputError(f"optuna_sampler needs a limit of at least 1 trial, got {limit!r}")


def record(score: np.ndarray, frame: Frame, trials: Trials, limit: int) -> Trials:
    """The trials with what the frame shows: of a network seen before, only the latest counts."""
    known = np.isfinite(score) | ~np.asarray(frame.alive)
    # A child that was granted no step shows its parent's fitness, not what its own genes do.
    shown = np.flatnonzero((frame.birth >= 0) & (frame.steps > 0) & known)
    births = np.asarray(frame.birth)[shown]
    kept = ~np.isin(trials.birth, births)
    birth = np.concatenate([trials.birth[kept], births])
    order = np.argsort(birth, kind="stable")[-limit:]

    def joined(old: np.ndarray, new: Array) -> np.ndarray:
        return np.concatenate([old[kept], np.asarray(new)[shown]])[order]

    genome = {name: joined(old, frame.genome[name]) for name, old in trials.genome.items()}
    return Trials(birth[order], joined(trials.value, score), genome)


def suggest(
    make: Sampler, seed: int, space: Space, trials: Trials, fresh: np.ndarray
) -> list[dict[str, Any]]:
    """Genes for new networks, one after the other; `fresh` `[C]`: structural ones too."""
    distributions = {name: _distribution(gene) for name, gene in space.genes}
    free = {name: d for name, d in distributions.items() if not space[name].structural}
    with _quiet():
        told = _told(space, distributions, trials)
        study = _optuna().create_study(direction="maximize", sampler=_made(make, seed, told))
        study.add_trials(told)
        return [study.ask(distributions if new else free).params for new in fresh]


def _told(space: Space, distributions: dict[str, Any], trials: Trials) -> list[Any]:
    """Finished trials; those that diverged are as bad as the worst."""
    known = trials.value[np.isfinite(trials.value)]
    if not len(known):
        return []
    values = np.where(np.isfinite(trials.value), trials.value, known.min())
    return [
        _optuna().trial.create_trial(
            params={name: _param(space[name], trials.genome[name][i]) for name in distributions},
            distributions=distributions,
            value=float(value),
            # Without it NSGA-II ignores a trial.
            system_attrs={"NSGAIISampler:generation": 0},
        )
        for i, value in enumerate(values)
    ]


def _distribution(gene: Any) -> Any:
    of = _optuna().distributions
    if isinstance(gene, Choice):
        return of.CategoricalDistribution(tuple(range(len(gene.options))))
    return of.FloatDistribution(gene.low, gene.high, log=gene.log)


def _param(gene: Any, value: Any) -> int | float:
    # The nearest float32 of a bound may lie beyond it.
    return int(value) if isinstance(gene, Choice) else min(max(float(value), gene.low), gene.high)


def _maker(sampler: str | Sampler) -> Sampler:
    """What makes the sampler of a seed and the trials so far."""
    of = _optuna().samplers
    if callable(sampler):
        return lambda seed, told: sampler(seed=seed)
    return {
        "tpe": lambda seed, told: of.TPESampler(seed=seed, constant_liar=True),
        "cmaes": lambda seed, told: _with("cmaes", of.CmaEsSampler)(
            seed=seed, source_trials=_numeric(told), warn_independent_sampling=False
        ),
        "gp": lambda seed, told: _with("torch", of.GPSampler)(
            seed=seed, warn_independent_sampling=False
        ),
        "nsga2": lambda seed, told: of.NSGAIISampler(
            seed=seed, population_size=min(50, max(2, len(told) // 2))
        ),
    }[sampler]


def _with(package: str, sampler: Any) -> Any:
    # Optuna itself would miss it only when it samples.
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{sampler.__name__} needs the package {package}; install it")
    return sampler


def _numeric(told: list[Any]) -> list[Any] | None:
    """The trials without choices, of which CMA-ES knows nothing; None if there are too few."""
    of = _optuna().distributions
    left = [
        {name: d for name, d in trial.distributions.items() if isinstance(d, of.FloatDistribution)}
        for trial in told
    ]
    # It starts from the best tenth of them.
    if len(told) < 10 or not left[0]:
        return None
    return [
        _optuna().trial.create_trial(
            params={name: trial.params[name] for name in names},
            distributions=names,
            value=trial.value,
        )
        for trial, names in zip(told, left, strict=True)
    ]


def _made(make: Sampler, seed: int, told: list[Any]) -> Any:
    base = _optuna().samplers.BaseSampler
    try:
        made = make(seed, told)
    except (ImportError, TypeError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"the sampler cannot be made of a seed: {line}") from error
    if not isinstance(made, base):
        raise InputError(f"sampler must make a sampler of Optuna, got {type(made).__name__}")
    return made


def _name(sampler: str | Sampler | None) -> str:
    inner = getattr(sampler, "func", sampler)
    return repr(sampler or "tpe") if inner is None or isinstance(inner, str) else inner.__name__


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "optuna_sampler needs Optuna; install the extra: pip install 'swarmjax[optuna]'"
        ) from error
    return optuna


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna from telling of every study, and what of it is experimental."""
    optuna = _optuna()
    log, before = optuna.logging, optuna.logging.get_verbosity()
    log.set_verbosity(log.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        log.set_verbosity(before)
