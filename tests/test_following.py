from functools import reduce

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import following, mlp, models, optimizers
from swarmjax.cohorts import Costs
from swarmjax.following import Homes
from swarmjax.members import Recipe
from swarmjax.mlp import Box

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    depth=sj.structure(1, 2, 3),
    width=sj.structure(8, 64),
)
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 20, 3), optimizers.for_space(SPACE))
N, BATCH = 12, 16
# Padding is dear, compiling takes as long as some thousand steps.
COSTS = Costs(compile_seconds=1.0, flops_per_second=1e9, step_seconds=1e-6)
EVERYONE = [(d, w) for d in (0, 1, 2) for w in (0, 1)] * 2
STEPS = np.full(N, 50)


def genome(pairs):
    depth, width = np.asarray(pairs, np.int32).T
    return {"learning_rate": np.full(len(depth), 0.1, np.float32), "depth": depth, "width": width}


def begun(budget):
    """All networks in one program."""
    found, _ = models.architectures(SPACE, genome(EVERYONE))
    box = reduce(RECIPE.family.cover, map(RECIPE.family.contain, found))
    return following.begun(dict.fromkeys(found, box), budget)


def followed(homes, pairs, steps=STEPS):
    return following.follow(homes, RECIPE, BATCH, COSTS, genome(pairs), steps)


def test_networks_of_one_architecture_get_a_program_of_their_own():
    homes = followed(begun(10**7), [(0, 0)] * N)
    small = (("depth", 1), ("width", 8))
    assert homes.containers[small] == Box(1, 8) and homes.known == (Box(3, 64), Box(1, 8))
    assert homes.seen == 1 and homes.left == 10**7 - N * 50
    assert 0 < homes.seconds < homes.before / 5
    # Whoever is not there any more would go where it was.
    others = {box for each, box in homes.containers.items() if each != small}
    assert others == {Box(3, 64)}


def test_nothing_changes_where_little_is_left_or_padded():
    few, (large,) = begun(N * 100), {(2, 1)}
    assert followed(few, [(0, 0)] * N).containers == few.containers
    long = begun(10**7)
    after = followed(long, [large] * N)
    assert after.containers == long.containers and after.known == long.known
    assert (after.seen, after.left) == (1, 10**7 - N * 50)


def test_it_is_considered_only_when_architectures_are_gone():
    homes = begun(10**7)
    five = [*EVERYONE[:5], *EVERYONE[:5], (0, 0), (0, 0)]
    assert followed(homes, five) == homes._replace(left=10**7 - N * 50)
    four = followed(homes, EVERYONE[:4] * 3)
    assert four.seen == 4
    # Nothing is granted to the others.
    alone = followed(homes, EVERYONE, np.where(np.arange(N) == 0, 600, 0))
    assert alone.seen == 1 and alone.containers[(("depth", 1), ("width", 8))] == Box(1, 8)
    nobody = followed(homes, [(0, 0)] * N, STEPS * 0)
    assert nobody == homes


def test_networks_that_are_not_padded_dense_layers_stay():
    family = models.flax_family(
        SPACE, lambda depth, width: mlp.MLP(3, depth, width), np.zeros((1, 20), np.float32)
    )
    recipe = Recipe(SPACE, family, optimizers.for_space(SPACE))
    found, _ = models.architectures(SPACE, genome(EVERYONE))
    homes = following.begun({each: each for each in found}, 10**7)
    after = following.follow(homes, recipe, BATCH, COSTS, genome([(0, 0)] * N), STEPS)
    assert after == homes._replace(left=10**7 - N * 50)


def test_an_architecture_that_nobody_knows_goes_to_the_cheapest_that_holds_it():
    family = RECIPE.family
    homes = Homes({(("depth", 1), ("width", 8)): Box(1, 8)}, (Box(3, 64), Box(1, 8), Box(2, 64)))
    assert following.home(family, homes, (("depth", 2), ("width", 8))) == Box(2, 64)
    assert following.home(family, Homes(), (("depth", 2), ("width", 8))) == Box(2, 8)


@pytest.mark.parametrize("budget", [10**3, 10**6, 10**9])
@given(rounds=st.lists(st.lists(st.sampled_from(EVERYONE[:6]), min_size=N, max_size=N), max_size=6))
def test_every_network_fits_and_programs_stay_few(budget, rounds):
    homes = begun(budget)
    for pairs in rounds:
        before, homes = homes, followed(homes, pairs)
        assert homes == followed(before, pairs)
        for each, box in following.containers(RECIPE, homes, genome(pairs)).items():
            own = RECIPE.family.contain(each)
            assert RECIPE.family.cover(box, own) == box and box in homes.known
        assert homes.known[: len(before.known)] == before.known
    # Six architectures become four, two and one at most.
    assert len(homes.known) <= 1 + 4 + 2 + 1 and homes.left == max(0, budget - 600 * len(rounds))
    jax.tree.map(np.asarray, homes.left)
