"""Genes and the search space they span: sample, grid, encode to the unit cube, decode, validate."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.types import Array, Genome, InputError, Key, namespace

Option = str | int | float | bool

RESERVED = frozenset(
    "round quota remaining loss gradient_norm steps step total_steps alive alarm cost "
    "parameters bytes seconds genome birth lineage parent mate operator devices fresh member "
    "fitness time".split()
)


@dataclass(frozen=True)
class Range:
    """A real-valued gene between `low` and `high`, uniform in its value or in its logarithm."""

    low: float
    high: float
    log: bool
    structural = False

    def decode(self, unit: Array) -> Array:
        """Maps `unit` in `[0, 1]` to float32 values inside `[low, high]`."""
        xp = namespace(unit)
        a, b = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = a + xp.clip(unit, 0.0, 1.0) * (b - a)
        return self.clip(xp.exp(value) if self.log else value)

    def encode(self, value: Array) -> Array:
        """Inverse of `decode`."""
        xp = namespace(value)
        if self.log:
            unit = xp.log(value / self.low) / math.log(self.high / self.low)
        else:
            unit = (value - self.low) / (self.high - self.low)
        return xp.clip(unit, 0.0, 1.0)

    def clip(self, value: Array) -> Array:
        """Values moved to the nearest legal one, as float32."""
        xp, low, high = namespace(value), np.float32(self.low), np.float32(self.high)
        return xp.clip(xp.asarray(value, np.float32), low, high)

    def legal(self, value: Array) -> np.ndarray:
        """Which values lie in the range."""
        value = np.asarray(value)
        return (value >= np.float32(self.low)) & (value <= np.float32(self.high))


@dataclass(frozen=True)
class Choice:
    """A gene that picks one of `options`; stored as the option's index."""

    options: tuple[Option, ...]
    structural: bool = False

    def decode(self, unit: Array) -> Array:
        """Maps `unit` in `[0, 1]` to an option index; each option owns an equal share."""
        return self.clip(namespace(unit).floor(unit * len(self.options)))

    def encode(self, value: Array) -> Array:
        """The middle of the option's share of the unit interval."""
        return (namespace(value).asarray(value, np.float32) + 0.5) / len(self.options)

    def clip(self, value: Array) -> Array:
        """Indices moved to the nearest legal one, as int32."""
        xp = namespace(value)
        return xp.clip(xp.asarray(value, np.int32), 0, len(self.options) - 1)

    def legal(self, value: Array) -> np.ndarray:
        """Which values are option indices."""
        value = np.asarray(value)
        return (value >= 0) & (value < len(self.options)) & (value == np.floor(value))


Gene = Range | Choice


def uniform(low: float, high: float) -> Range:
    """A gene uniform in `[low, high]`."""
    return _range(low, high, log=False)


def log_uniform(low: float, high: float) -> Range:
    """A gene whose logarithm is uniform in `[log(low), log(high)]`; `low` must be positive."""
    gene = _range(low, high, log=True)
    if gene.low <= 0:
        raise InputError(f"log_uniform needs low > 0, got low={low}; use uniform or raise low")
    return gene


def choice(*options: Option) -> Choice:
    """A gene that picks one of `options` and is traced: changing it never recompiles."""
    return _choice(options, structural=False)


def structure(*options: Option) -> Choice:
    """A gene that picks one of `options` and shapes the network (depth, width, kernel, ...)."""
    return _choice(options, structural=True)


def _range(low: float, high: float, log: bool) -> Range:
    for bound in (low, high):
        if not isinstance(bound, Real):
            raise InputError(f"a range needs numbers as bounds, got {type(bound).__name__}")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"a range needs finite bounds, got low={low}, high={high}")
    if max(abs(low), abs(high)) > float(np.finfo(np.float32).max):
        raise InputError(f"a range needs bounds that float32 holds, got low={low}, high={high}")
    if high - low > float(np.finfo(np.float32).max):
        raise InputError(f"a range needs a width that float32 holds, got low={low}, high={high}")
    if not low < high:
        raise InputError(f"a range needs low < high, got low={low}, high={high}; swap them")
    return Range(float(low), float(high), log)


def _choice(options: tuple[Option, ...], structural: bool) -> Choice:
    if not options:
        raise InputError("a choice needs at least one option, got none")
    for option in options:
        if not isinstance(option, str | int | float | bool):
            raise InputError(
                f"options must be text, numbers or booleans, got {type(option).__name__}"
            )
    if any(isinstance(option, float) and not math.isfinite(option) for option in options):
        raise InputError(f"options must be finite, got {options}")
    # Compared as values and as the texts they may be stored as.
    if min(len(set(options)), len({str(option) for option in options})) != len(options):
        raise InputError(f"options must differ, got {options}")
    return Choice(tuple(options), structural)


@dataclass(frozen=True, init=False)
class Space:
    """Named genes, in the order given: `Space(learning_rate=log_uniform(1e-4, 1e-1), ...)`.

    Hashable and static under `jit`.

    Raises:
        InputError: a name is not an identifier, is reserved for a column of the records, or the
            value is not a gene.
    """

    genes: tuple[tuple[str, Gene], ...]

    def __init__(self, **genes: Gene):
        for name, gene in genes.items():
            check_name(name)
            if not isinstance(gene, Range | Choice):
                raise InputError(
                    f"gene {name!r} must be made by uniform, log_uniform, choice or structure, "
                    f"got {type(gene).__name__}"
                )
        object.__setattr__(self, "genes", tuple(genes.items()))

    def __getitem__(self, name: str) -> Gene:
        return dict(self.genes)[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.genes)

    @property
    def structural(self) -> tuple[str, ...]:
        """Names of the genes that shape the network."""
        return tuple(name for name, gene in self.genes if gene.structural)

    def sample(self, key: Key, members: int) -> Genome:
        """Draws `members` independent genomes; a gene's draws depend on its name, not its place."""
        # All genes in one batch: a generator per gene would take most of a policy's compile time.
        marks = np.array([_mark(name) for name, _ in self.genes], np.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, marks)
        units = jax.vmap(lambda gene_key: jax.random.uniform(gene_key, (members,)))(keys)
        return {name: gene.decode(units[i]) for i, (name, gene) in enumerate(self.genes)}

    def draw(self, seed: int, members: int) -> Genome:
        """As `sample`, but on the host, which needs no compiled program."""
        streams = {name: np.random.default_rng([seed, _mark(name)]) for name, _ in self.genes}
        return {
            name: gene.decode(streams[name].random(members, np.float32))
            for name, gene in self.genes
        }

    def blank(self, *shape: int) -> Genome:
        """Zeros of this shape, of the type of each gene: for what looks at types alone."""
        return {
            name: np.zeros(shape, np.int32 if isinstance(gene, Choice) else np.float32)
            for name, gene in self.genes
        }

    def grid(self, members: int) -> Genome:
        """`members` points spread evenly over the smallest full grid that has so many.

        Every option is a level; all ranges get the same number of levels.
        """
        levels = _grid_levels([gene for _, gene in self.genes], members)
        shape = tuple(len(level) for level in levels)
        total = math.prod(shape)
        index = np.unravel_index(np.arange(members) * total // members, shape)
        points = [level[i] for level, i in zip(levels, index, strict=True)]
        return self.decode(np.stack(points, axis=-1).astype(np.float32))

    def encode(self, genome: Genome) -> jax.Array:
        """Genomes as points `[N, G]` of the unit cube, genes in the order of the space."""
        return jnp.stack([gene.encode(genome[name]) for name, gene in self.genes], axis=-1)

    def decode(self, points: Array) -> Genome:
        """Inverse of `encode`."""
        return {name: gene.decode(points[..., i]) for i, (name, gene) in enumerate(self.genes)}

    def clip(self, genome: Genome) -> Genome:
        """Every gene moved to its nearest legal value."""
        return {name: gene.clip(genome[name]) for name, gene in self.genes}

    def numbers(self, genome: Mapping[str, Array]) -> dict[str, jax.Array]:
        """Genes as traced numbers: numeric options replace their indices, texts stay indices."""
        return {name: _number(gene, genome[name]) for name, gene in self.genes}

    def values(self, genome: Mapping[str, Any], member: int) -> dict[str, Option]:
        """One member's genome as plain Python values, options in place of their indices."""
        return {name: _value(gene, genome[name][member]) for name, gene in self.genes}

    def to_json(self) -> dict[str, Any]:
        """A plain description that `from_json` reads back."""
        return {name: _describe(gene) for name, gene in self.genes}

    @staticmethod
    def from_json(described: Mapping[str, Any]) -> Space:
        """The space that `to_json` described; raises InputError on anything else."""
        return Space(**{name: _gene(name, text) for name, text in described.items()})


jax.tree_util.register_static(Space)


def check_name(name: str) -> None:
    """Raises InputError unless `name` can be a gene: an identifier that no record column uses."""
    if not name.isidentifier() or not name.isascii() or len(name) > 64 or name.startswith("_"):
        raise InputError(f"gene name {name!r} must be an identifier of at most 64 ASCII characters")
    if name in RESERVED or name.startswith(("valid_", "train_", "test_")):
        raise InputError(f"gene name {name!r} is used by the run's records; choose another")


def _mark(name: str) -> int:
    """The gene's number in random streams, whatever other genes there are."""
    return zlib.crc32(name.encode())


def _value(gene: Gene, raw: Any) -> Option:
    return gene.options[int(raw)] if isinstance(gene, Choice) else float(raw)


def _number(gene: Gene, raw: Array) -> jax.Array:
    if isinstance(gene, Choice) and not any(isinstance(o, str) for o in gene.options):
        options = np.asarray(gene.options)
        if isinstance(raw, np.ndarray | np.generic):
            # Known already: the lookup is no program, which would have to be compiled.
            return jnp.asarray(options.astype(jax.dtypes.canonicalize_dtype(options.dtype))[raw])
        return jnp.asarray(options)[raw]
    return jnp.asarray(raw)


def _describe(gene: Gene) -> dict[str, Any]:
    if isinstance(gene, Choice):
        return {"kind": "structure" if gene.structural else "choice", "options": list(gene.options)}
    return {"kind": "log_uniform" if gene.log else "uniform", "low": gene.low, "high": gene.high}


def _gene(name: str, text: Any) -> Gene:
    makers = {"uniform": uniform, "log_uniform": log_uniform}
    try:
        if text["kind"] in makers:
            return makers[text["kind"]](float(text["low"]), float(text["high"]))
        return {"choice": choice, "structure": structure}[text["kind"]](*text["options"])
    except (KeyError, TypeError) as error:
        raise InputError(f"gene {name!r} is not described as expected: {error}") from None


def _grid_levels(genes: list[Gene], members: int) -> list[np.ndarray]:
    choices = math.prod(len(g.options) for g in genes if isinstance(g, Choice))
    ranges = sum(isinstance(g, Range) for g in genes)
    per_range = 1
    while ranges and choices * per_range**ranges < members:
        per_range += 1
    return [
        (np.arange(k) + 0.5) / k
        for k in (len(g.options) if isinstance(g, Choice) else per_range for g in genes)
    ]
