from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from swarmjax import space
from swarmjax.optimizers import KINDS, check_genes, for_space, from_genome, make_rule, unified
from swarmjax.types import InputError

NAMES = ("sgd", "momentum", "adam", "adamw", "nesterov", "rmsprop", "lion")
SPACE = space.Space(
    optimizer=space.choice(*NAMES),
    learning_rate=space.log_uniform(1e-4, 1e-1),
    weight_decay=space.uniform(0.0, 0.5),
    momentum=space.uniform(0.0, 0.99),
)
# Every optimizer without and with weight decay, each member with numbers of its own.
KIND = np.repeat(np.arange(7), 2)
GENOME = {
    "optimizer": KIND.astype(np.int32),
    "learning_rate": np.float32(
        [0.02, 0.05, 0.01, 0.03, 0.02, 0.01, 0.04, 0.02, 0.01, 0.03, 0.02, 0.01, 0.02, 0.01]
    ),
    "weight_decay": np.float32([0.0, 0.3] * 7),
    "momentum": np.float32([0.9, 0.5, 0.8, 0.9, 0.9, 0.6, 0.9, 0.7, 0.8, 0.9, 0.9, 0.5, 0.9, 0.6]),
}
STEPS = 20
RNG = np.random.default_rng(0)
START = {
    "kernel": np.where(np.eye(3, 4), 0.0, RNG.normal(size=(3, 4))).astype(np.float32),
    "bias": {"b": RNG.normal(size=4).astype(np.float32)},
}
PUSH = jax.tree.map(lambda p: RNG.normal(size=(STEPS, *p.shape)).astype(np.float32), START)


def descend(optimizer, start, push):
    """Parameters after each of the steps down a bowl that moves, and the last state."""

    def step(carry, push):
        params, state = carry
        gradients = jax.tree.map(lambda p, move: 0.5 * p + move, params, push)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(step, (start, optimizer.init(start)), push)
    return path, state


@jax.jit
def ours(genome, start, push):
    def one(genome):
        return descend(from_genome(SPACE, SPACE.numbers(genome)), start, push)

    return jax.vmap(one)(genome)


def by_optax(name, learning_rate, momentum, weight_decay):
    decay = optax.add_decayed_weights(weight_decay)
    match name:
        case "sgd":
            return optax.chain(decay, optax.sgd(learning_rate))
        case "momentum":
            return optax.chain(decay, optax.sgd(learning_rate, momentum=momentum))
        case "adam":
            return optax.chain(decay, optax.adam(learning_rate, b1=momentum))
        case "adamw":
            return optax.adamw(learning_rate, b1=momentum, weight_decay=weight_decay)
        case "nesterov":
            return optax.chain(decay, optax.sgd(learning_rate, momentum=momentum, nesterov=True))
        case "rmsprop":
            return optax.chain(decay, optax.rmsprop(learning_rate, eps_in_sqrt=False))
    return optax.lion(learning_rate, b1=momentum, weight_decay=weight_decay)


@jax.jit
def references(start, push):
    paths = []
    for i, kind in enumerate(KIND):
        numbers = [float(GENOME[g][i]) for g in ("learning_rate", "momentum", "weight_decay")]
        paths.append(descend(by_optax(NAMES[kind], *numbers), start, push)[0])
    return paths


def assert_same_path(mine, expected):
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=5e-7)
    jax.tree.map(close, mine, expected)


def test_each_is_its_optax_namesake_and_all_share_one_program():
    path, _ = ours(GENOME, START, PUSH)
    for i, expected in enumerate(references(START, PUSH)):
        assert_same_path(jax.tree.map(lambda leaf: leaf[i], path), expected)  # noqa: B023
    ends = np.stack([np.asarray(path["kernel"][i, -1]) for i in range(len(KIND))])
    apart = abs(ends[:, None] - ends[None]).max(axis=(2, 3)) + np.eye(len(KIND))
    assert apart.min() > 1e-3, "different ways, or the comparison means nothing"


def test_zeros_without_gradient_stay_exactly_zero():
    """Padding of narrow networks survives every optimizer, with weight decay and momentum."""
    padding = np.eye(3, 4, dtype=bool)
    # The bowl pushes parameters of 0 only by `push`.
    push = PUSH | {"kernel": np.where(padding[None], 0.0, PUSH["kernel"]).astype(np.float32)}
    path, state = ours(GENOME, START, push)
    assert (np.asarray(path["kernel"])[:, :, padding] == 0.0).all()
    assert (np.asarray(path["kernel"])[:, :, ~padding] != 0.0).all()
    for moment in (state.first, state.second):
        kernel = np.asarray(moment)[:, -padding.size :].reshape(-1, *padding.shape)
        assert (kernel[:, padding] == 0.0).all() and (kernel[-1, ~padding] != 0.0).all()
    np.testing.assert_array_equal(state.count, STEPS)


def test_missing_genes_take_the_usual_values():
    """Adam, learning rate 0.001, momentum 0.9, no weight decay."""

    @jax.jit
    def both(start, push):
        usual = descend(from_genome(space.Space(), {}), start, push)[0]
        return usual, descend(optax.adam(1e-3, b1=0.9), start, push)[0]

    mine, expected = both(START, PUSH)
    assert_same_path(mine, expected)


def test_the_gene_is_checked():
    check_genes(SPACE)
    check_genes(space.Space())
    with pytest.raises(InputError, match="'muon' is unknown.*sgd, momentum, nesterov"):
        check_genes(space.Space(optimizer=space.choice("adam", "muon")))
    with pytest.raises(InputError, match="'optimizer' must be a choice of names"):
        check_genes(space.Space(optimizer=space.uniform(0.0, 1.0)))
    for name in ("learning_rate", "weight_decay", "momentum", "warmup", "decay_steps"):
        check_genes(space.Space(**{name: space.choice(0.1, 0)}))
        # As a traced number a text would be its place among the options.
        with pytest.raises(InputError, match=f"'{name}' must have numbers.*0.01"):
            check_genes(space.Space(**{name: space.choice("0.1", "0.01")}))


def test_equal_spaces_share_one_function():
    def make(low):
        return space.Space(learning_rate=space.uniform(low, 1.0), optimizer=space.choice("sgd"))

    assert for_space(make(0.25)) is for_space(make(0.25))
    assert for_space(make(0.25)) is not for_space(make(0.5))


def test_numeric_options_count_by_their_value():
    searched = space.Space(learning_rate=space.choice(0.5, 0.25), optimizer=space.choice("sgd"))

    @jax.jit
    def update(genome):
        optimizer = for_space(searched)(searched.numbers(genome))
        params = jnp.float32([2.0, -4.0])
        return optimizer.update(jnp.float32([1.0, 8.0]), optimizer.init(params), params)[0]

    genome = {"learning_rate": jnp.int32(1), "optimizer": jnp.int32(0)}
    np.testing.assert_array_equal(update(genome), [-0.25, -2.0])


def test_moments_keep_the_type_of_their_parameters():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    optimizer = unified(
        make_rule(KINDS["adamw"], jnp.float32(0.9)), jnp.float32(0.1), jnp.float32(0.01)
    )
    _, state = optimizer.update(params, optimizer.init(params), params)
    assert state.first.dtype == state.second.dtype == jnp.bfloat16


def test_warmup_and_decay_are_the_schedules_of_optax():
    """Each alone and both, against optax's own pieces; a warmup of 0 is none."""
    searched = space.Space(
        learning_rate=space.log_uniform(1e-3, 1e-1),
        warmup=space.choice(0, 5),
        decay_steps=space.uniform(1, 100),
    )
    genome = {
        "learning_rate": np.float32([0.05, 0.02, 0.02]),
        "warmup": np.int32([0, 1, 1]),
        "decay_steps": np.float32([12, 1e9, 15]),
    }

    @jax.jit
    def both(genome, start, push):
        mine = jax.vmap(lambda g: descend(from_genome(searched, searched.numbers(g)), start, push))
        warm = lambda t: jnp.minimum(1.0, (t + 1) / 5)  # noqa: E731
        cosine = [optax.cosine_decay_schedule(1.0, n) for n in (12, 15)]
        rates = [
            lambda t: 0.05 * cosine[0](t),
            lambda t: 0.02 * warm(t),
            lambda t: 0.02 * warm(t) * cosine[1](t),
        ]
        return mine(genome)[0], [descend(optax.adam(rate), start, push)[0] for rate in rates]

    paths, expected = both(genome, START, PUSH)
    for i in range(3):
        assert_same_path(jax.tree.map(lambda leaf: leaf[i], paths), expected[i])  # noqa: B023
    kernel = np.asarray(paths["kernel"])
    np.testing.assert_array_equal(kernel[0, 12:], kernel[0, 12:13].repeat(STEPS - 12, 0))
    assert (kernel[1, -1] != kernel[1, -2]).all()


WARM_COSINE = optax.warmup_cosine_decay_schedule(0.0, 1.0, 4, 16)


def scheduled(genes):
    # Not with a traced peak, which optax compares with zero in Python.
    rate = lambda count: genes["learning_rate"] * WARM_COSINE(count)  # noqa: E731
    return optax.adamw(rate, weight_decay=genes["weight_decay"])


def clipped(genes):
    return optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.add_decayed_weights(genes["weight_decay"]),
        optax.sgd(genes["learning_rate"], momentum=genes["momentum"], nesterov=True),
    )


@pytest.mark.parametrize("make", [scheduled, clipped])
def test_any_optax_chain_takes_traced_genes_and_never_recompiles(make):
    """As `Experiment.optimizer`: one program for all members and all values of their genes."""
    names = ("learning_rate", "weight_decay", "momentum")

    @jax.jit
    def train(genes, start, push):
        return jax.vmap(lambda g: descend(make(g), start, push)[0])(genes)

    for shift in (0, 3):
        genes = {name: GENOME[name][shift : shift + 2] for name in names}
        paths = train(genes, START, PUSH)
        for i in range(2):
            fixed = {name: float(values[i]) for name, values in genes.items()}
            expected = jax.jit(lambda s, p, fixed=fixed: descend(make(fixed), s, p)[0])(START, PUSH)
            mine = jax.tree.map(lambda leaf: leaf[i], paths)  # noqa: B023
            assert_same_path(mine, expected)
    assert train._cache_size() == 1
