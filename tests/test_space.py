import math

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from swarmjax import space
from swarmjax.types import InputError

nan, inf = np.nan, np.inf
MIXED = space.Space(
    learning_rate=space.log_uniform(1e-4, 1e-1),
    momentum=space.uniform(-1.0, 1.0),
    activation=space.choice("relu", "gelu", "silu"),
    depth=space.structure(1, 2),
)

ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(
    lambda pair: space.uniform(pair[0], pair[0] + pair[1])
)
log_ranges = st.tuples(st.floats(1e-8, 1e3), st.floats(1.01, 1e6)).map(
    lambda pair: space.log_uniform(pair[0], pair[0] * pair[1])
)
choices = st.integers(1, 9).map(lambda k: space.choice(*range(k)))
genes = ranges | log_ranges | choices


@given(genes, st.lists(st.floats(-0.5, 1.5, width=32), min_size=8, max_size=8))
def test_decoded_values_are_legal(gene, unit):
    unit = np.array(unit, np.float32)
    value = gene.decode(unit)
    assert gene.legal(value).all()
    assert value.dtype == (np.float32 if isinstance(gene, space.Range) else np.int32)
    ends, beyond = gene.decode(np.float32([0, 1])), gene.decode(np.float32([-1, 2]))
    assert ends.tolist() == beyond.tolist()


@given(genes, st.lists(st.floats(0, 1, width=32), min_size=8, max_size=8))
def test_encode_inverts_decode(gene, unit):
    value = np.asarray(gene.decode(np.array(unit, np.float32)))
    again = np.asarray(gene.decode(gene.encode(value)))
    if isinstance(gene, space.Choice):
        np.testing.assert_array_equal(again, value)
    elif gene.log:
        np.testing.assert_allclose(again, value, rtol=1e-4)
    else:
        np.testing.assert_allclose(again, value, atol=1e-5 * max(abs(gene.low), abs(gene.high)))


def test_decode_by_hand():
    rate = space.log_uniform(1e-4, 1e-2)
    np.testing.assert_allclose(rate.decode(np.float32([0, 0.5, 1])), [1e-4, 1e-3, 1e-2], rtol=1e-5)
    third = space.choice("a", "b", "c")
    assert third.decode(np.float32([0, 0.33, 0.34, 0.67, 1])).tolist() == [0, 0, 1, 2, 2]
    np.testing.assert_allclose(third.encode(np.array([0, 1, 2])), [1 / 6, 0.5, 5 / 6])


@pytest.mark.parametrize("gene", [space.uniform(0.0, 1.0), space.choice("a", "b")])
def test_what_is_not_legal(gene):
    assert gene.legal(np.array([0.0, 1.0])).all()
    assert not gene.legal(np.array([-0.1, 2.5, nan, inf, -inf])).any()


def test_samples_are_legal_spread_and_independent_of_other_genes():
    drawn = MIXED.sample(jax.random.key(0), 500)
    assert all(gene.legal(drawn[name]).all() for name, gene in MIXED.genes)
    assert np.bincount(drawn["activation"]).min() > 120
    assert 0.4 < (np.asarray(drawn["learning_rate"]) < math.sqrt(1e-5)).mean() < 0.6
    alone = space.Space(depth=space.structure(1, 2)).sample(jax.random.key(0), 500)
    np.testing.assert_array_equal(alone["depth"], drawn["depth"])


def test_what_the_host_draws_is_legal_spread_and_independent_of_other_genes():
    drawn = MIXED.draw(3, 500)
    for name, gene in MIXED.genes:
        assert type(drawn[name]) is np.ndarray and gene.legal(drawn[name]).all()
    assert np.bincount(drawn["activation"]).min() > 120
    assert 0.4 < (drawn["learning_rate"] < math.sqrt(1e-5)).mean() < 0.6
    alone = space.Space(depth=space.structure(1, 2)).draw(3, 500)
    np.testing.assert_array_equal(alone["depth"], drawn["depth"])
    assert not np.array_equal(MIXED.draw(4, 500)["depth"], drawn["depth"])


@given(genes, st.lists(st.floats(0, 1, width=32), min_size=8, max_size=8))
def test_the_host_decodes_as_a_compiled_program_does(gene, unit):
    unit = np.array(unit, np.float32)
    value, traced = gene.decode(unit), gene.decode(jax.numpy.asarray(unit))
    assert (value.dtype, type(value)) == (traced.dtype, np.ndarray)
    scale = max(abs(gene.low), abs(gene.high)) if isinstance(gene, space.Range) else 1.0
    np.testing.assert_allclose(value, traced, rtol=1e-5, atol=1e-6 * scale)


def test_an_empty_space_samples_nothing():
    assert space.Space().sample(jax.random.key(0), 3) == {}


@pytest.mark.parametrize("members", [1, 5, 12, 13, 100])
def test_grid_is_legal_and_distinct(members):
    grid = MIXED.grid(members)
    points = np.stack([np.asarray(grid[name], np.float32) for name, _ in MIXED.genes], axis=-1)
    assert points.shape == (members, 4)
    assert len(np.unique(points, axis=0)) == members
    assert all(gene.legal(grid[name]).all() for name, gene in MIXED.genes)


def test_a_partial_grid_reaches_every_level_of_the_first_gene():
    ordered = space.Space(a=space.choice(0, 1, 2), b=space.uniform(0.0, 1.0))
    assert ordered.grid(4)["a"].tolist() == [0, 0, 1, 2]
    assert set(ordered.grid(5)["a"].tolist()) == {0, 1, 2}


def test_a_grid_smaller_than_the_swarm_repeats_evenly():
    assert space.Space(a=space.choice(0, 1)).grid(5)["a"].tolist() == [0, 0, 0, 1, 1]


def test_points_of_the_cube():
    genome = MIXED.sample(jax.random.key(1), 20)
    points = np.asarray(MIXED.encode(genome))
    assert points.shape == (20, 4)
    assert ((points >= 0) & (points <= 1)).all()
    for name, values in MIXED.decode(points).items():
        np.testing.assert_allclose(values, genome[name], rtol=1e-4, atol=1e-5)


def test_clip_and_values():
    wild = {"learning_rate": [9.0], "momentum": [-9.0], "activation": [7], "depth": [-1]}
    assert MIXED.values(MIXED.clip(wild), 0) == {
        "learning_rate": pytest.approx(0.1),
        "momentum": -1.0,
        "activation": "silu",
        "depth": 1,
    }


def test_equality_hash_membership_and_json():
    again = space.Space.from_json(MIXED.to_json())
    assert again == MIXED
    assert hash(again) == hash(MIXED)
    assert "depth" in MIXED
    assert "width" not in MIXED
    assert MIXED.structural == ("depth",)
    assert MIXED["depth"].options == (1, 2)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a-b", "é", "_x", "<script>", "../x", "x" * 65, "loss", "valid_x", "round", "1a"],
)
def test_hostile_and_reserved_names(name):
    with pytest.raises(InputError, match="gene name"):
        space.Space(**{name: space.uniform(0.0, 1.0)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: space.uniform(1.0, 0.0), "low < high"),
        (lambda: space.uniform(0.0, inf), "finite bounds"),
        (lambda: space.uniform(nan, 1.0), "finite bounds"),
        (lambda: space.log_uniform(0.0, 1.0), "low > 0"),
        (lambda: space.choice(), "at least one option"),
        (lambda: space.choice(1, 1.0), "must differ"),
        (lambda: space.structure([1]), "got list"),
        (lambda: space.Space(a=1.0), "gene 'a' must be made by"),
    ],
)
def test_bad_genes(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    "text", [None, {}, {"kind": "evil"}, {"kind": "uniform", "low": 0}, {"kind": "choice"}, [1]]
)
def test_bad_descriptions(text):
    with pytest.raises(InputError, match="gene 'a' is not described as expected"):
        space.Space.from_json({"a": text})


def test_bounds_and_options_that_float32_cannot_hold_are_refused():
    with pytest.raises(InputError, match="float32 holds"):
        space.log_uniform(1e-3, 1e39)
    with pytest.raises(InputError, match="options must be finite"):
        space.choice(1.0, float("nan"))


def test_known_genes_are_looked_up_as_traced_ones_are():
    sizes = space.Space(rate=space.uniform(0.0, 1.0), kind=space.choice("a", "b"),
                        depth=space.structure(1, 3), scale=space.choice(0.5, 2.0))  # fmt: skip
    genome = sizes.draw(3, 5)
    known, traced = sizes.numbers(genome), jax.jit(sizes.numbers)(genome)
    for name in genome:
        assert known[name].dtype == traced[name].dtype
        np.testing.assert_array_equal(known[name], traced[name])


def test_a_blank_genome_has_the_types_of_one_that_is_drawn():
    made = space.Space(rate=space.uniform(0.0, 1.0), kind=space.choice("a", "b"))
    drawn = made.draw(0, 6)
    for name, values in made.blank(6).items():
        assert (values.shape, values.dtype) == (drawn[name].shape, drawn[name].dtype)
        assert not values.any()
    assert [values.shape for values in made.blank().values()] == [(), ()]
