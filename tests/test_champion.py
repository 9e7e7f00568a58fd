import jax
import numpy as np
import pytest
from resumed_run import setting

from swarmjax import champion, goals
from swarmjax.experiment import check
from swarmjax.naming import InputError
from swarmjax.policy import keep
from swarmjax.rounds import begin


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    setup = check(setting(tmp_path_factory.mktemp("champion") / "run"))
    trainer, frame = begin(setup)
    everyone = np.ones(6, bool)
    plan = keep(frame)._replace(fresh=everyone, steps=np.full(6, 10, np.int32))
    return setup, trainer, trainer.round(jax.tree.map(np.asarray, plan), frame)


def scored(frame, accuracy):
    accuracy = np.asarray(accuracy, np.float32)
    return frame._replace(metrics=frame.metrics | {"valid_accuracy": accuracy})


def challenge(before, trained, frame, held=None):
    setup, trainer, _ = trained
    return champion.challenge(before, setup, trainer, frame, frame if held is None else held)


def test_only_a_better_one_takes_its_place(trained):
    frame = scored(trained[2], [0.5, 0.7, 0.6, 0.1, 0.2, 0.3])
    first = challenge(None, trained, frame)
    assert first.worth == (True, pytest.approx(0.7, abs=1e-3)) and first.best.member == 1
    assert challenge(first, trained, frame) is first
    worse = scored(frame, [0.69, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert challenge(first, trained, worse) is first
    better = scored(frame, [0.1, 0.1, 0.1, 0.1, 0.1, 0.8])
    assert challenge(first, trained, better).best.member == 5


def test_the_dead_and_those_held_elsewhere_are_no_champions(trained):
    frame = scored(trained[2], [0.5, 0.7, np.nan, 0.1, 0.2, 0.3])
    held = frame._replace(alive=np.arange(6) != 1)
    assert challenge(None, trained, frame, held).best.member == 0
    nobody = frame._replace(alive=np.zeros(6, bool))
    assert challenge(None, trained, frame, nobody) is None


def test_whoever_keeps_within_the_limits_comes_first(trained):
    setup, trainer, frame = trained
    small = int(np.asarray(frame.parameters).argmin())
    limit = f"<= {int(frame.parameters[small])}"
    setup = setup._replace(goal=goals.constrained(goals.weighted(accuracy=1.0), parameters=limit))
    within = np.asarray(frame.parameters) <= frame.parameters[small]
    frame = scored(frame, np.where(within, 0.1, 0.9))
    outside = frame._replace(alive=~within)
    first = champion.challenge(None, setup, trainer, frame, outside)
    assert first.worth == (False, pytest.approx(0.9, abs=1e-3))
    second = champion.challenge(first, setup, trainer, frame, frame)
    assert second.worth == (True, pytest.approx(0.1, abs=1e-3)) and within[second.best.member]
    assert champion.challenge(second, setup, trainer, frame, outside) is second


def test_what_a_checkpoint_keeps_of_it_is_the_same_network(trained):
    setup, trainer, frame = trained
    before = challenge(None, trained, frame)
    arrays, facts = champion.kept(before)
    after = champion.found_again(setup, trainer, arrays, facts)
    assert after.worth == before.worth and after.best.genome == before.best.genome
    assert (after.best.scores, after.best.birth) == (before.best.scores, before.best.birth)
    pairs = zip(jax.tree.leaves(after.network), jax.tree.leaves(before.network), strict=True)
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    assert champion.kept(None) == ({}, {})
    assert champion.found_again(setup, trainer, {}, {}) is None
    name = next(name for name in arrays if name.startswith("best[0]"))
    del arrays[name]
    with pytest.raises(InputError, match="is not in both"):
        champion.found_again(setup, trainer, arrays, facts)
