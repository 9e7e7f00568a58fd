import jax
import numpy as np
import pytest
import resumed_run

from swarmjax import holding, placement
from swarmjax.experiment import check
from swarmjax.following import Homes
from swarmjax.population import apply_plan
from swarmjax.swarm import Store, empty_swarm
from swarmjax.types import InputError, Plan


@pytest.fixture(scope="module")
def made():
    """A swarm of two containers on two devices, and how it was made."""
    recipe = check(resumed_run.setting(None)).recipe
    genome = recipe.space.draw(0, 6)
    own, zeros = np.arange(6, dtype=np.int32), np.zeros(6, np.int32)
    plan = Plan(own, own, zeros, zeros, np.ones(6, np.int32), np.ones(6, bool), genome)
    store = Store(placement.make_mesh(devices=jax.devices()[:2]), 8)
    swarm = apply_plan(recipe, {}, jax.random.key(0), empty_swarm(6), genome, plan, store)
    assert len(swarm.cohorts) == 2
    return recipe, genome, swarm


@pytest.mark.parametrize(("devices", "host"), [(2, False), (1, False), (8, True)])
def test_a_swarm_comes_back_whatever_the_devices_are(made, devices, host):
    recipe, genome, swarm = made
    arrays = holding.arrays_of(swarm)
    store = Store(placement.make_mesh(devices=jax.devices()[:devices]), 8, host)
    back = holding.swarm_of(recipe, Homes(), genome, arrays, store)
    again = holding.arrays_of(back)
    assert np.array_equal(holding.digests(again), holding.digests(arrays))
    for name in ("row", "birth", "lineage", "step", "births"):
        assert np.array_equal(getattr(back, name), getattr(swarm, name))
    places = [(swarm.place(slot), back.place(slot)) for slot in range(6)]
    assert all(before == after for before, after in places)


def test_digests_tell_members_apart(made):
    _, _, swarm = made
    arrays = holding.arrays_of(swarm)
    before = holding.digests(arrays)
    assert before.shape == (6, 16) and len(np.unique(before, axis=0)) == 6
    kind = swarm.kind[2]
    name = next(n for n in arrays if n.startswith(f"member{kind}.") and arrays[n].ndim > 1)
    at = int((np.flatnonzero(swarm.kind == kind) == 2).argmax())
    arrays[name][at].flat[0] += 1
    changed = (holding.digests(arrays) != before).any(axis=1)
    assert changed.tolist() == [slot == 2 for slot in range(6)]


def test_members_of_other_sizes_are_refused(made):
    recipe, genome, swarm = made
    arrays = holding.arrays_of(swarm)
    store = Store(placement.make_mesh(devices=jax.devices()[:1]), 8)
    kernels = [name for name in arrays if name.endswith("['kernel']")]
    wrong = arrays | {kernels[0]: arrays[kernels[0]][..., :-1]}
    with pytest.raises(InputError, match="were saved as float32"):
        holding.swarm_of(recipe, Homes(), genome, wrong, store)


def test_nothing_of_it_is_shared(made):
    _, _, swarm = made
    arrays = holding.arrays_of(swarm)
    for array in arrays.values():
        array[...] = 0
    assert holding.arrays_of(swarm)["swarm.birth"].tolist() == list(range(6))
