"""Members that break, disks that fill up, policies that err: the others go on as if nothing was."""

import contextlib
import sqlite3

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
import resumed_run

import swarmjax as sj
from swarmjax import checkpoints, segments, store
from swarmjax.policy import stateless
from swarmjax.progress import Silent
from swarmjax.types import Policy

MEMBERS = 8
SPACE = sj.Space(rate=sj.log_uniform(1e-3, 1e-2), poison=sj.choice(0, 1), width=sj.structure(4))


class Small(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(self.width)(x)))


def poisoned(genes):
    """SGD whose steps are NaN for whoever has the poison."""
    return optax.sgd(genes["rate"] * jax.numpy.where(genes["poison"] > 0, np.nan, 1.0))


def dose(members):
    """Poisons the first members in the third round."""

    def rule(key, plan, frame):
        sick = (frame.round >= 2) & (np.arange(MEMBERS) < members)
        poison = jax.numpy.where(sick, 1, 0).astype(plan.genome["poison"].dtype)
        # As many steps for everyone, whoever lives: else the healthy would train longer.
        steps = jax.numpy.full_like(plan.steps, 10)
        return plan._replace(steps=steps, genome={**plan.genome, "poison": poison})

    return stateless(rule, f"dose({members})")


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """What a number of poisoned members makes of the swarm."""

    def run(members):
        experiment = resumed_run.setting(
            tmp_path_factory.mktemp("nan") / "run", space=SPACE, model=Small, optimizer=poisoned,
            members=MEMBERS, budget=320, policy=dose(members),
        )  # fmt: skip
        result = sj.run(experiment)
        networks = [result.trainer.network(i, result.frame.genome).member for i in range(MEMBERS)]
        return result, networks

    return run


def test_members_that_are_not_finite_change_no_other(spread):
    whole, healthy = spread(0)
    for sick in (1, MEMBERS // 2, MEMBERS - 1):
        result, networks = spread(sick)
        assert result.frame.alive.tolist() == [i >= sick for i in range(MEMBERS)]
        for one, other in zip(networks[sick:], healthy[sick:], strict=True):
            pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
            assert all(np.array_equal(x, y) for x, y in pairs)
        assert result.frame.round == whole.frame.round
        assert np.isfinite(result.best.scores["valid_loss"])


class Noting(Silent):
    def __init__(self, fill, empty):
        self.fill, self.empty, self.notes, self.full = fill, empty, [], False

    def note(self, text):
        self.notes.append(text)

    def show(self, status):
        if status.state == "running":
            self.full = self.fill <= status.round < self.empty
            self.round = status.round


@pytest.mark.parametrize("database", [False, True])
def test_training_goes_on_while_the_disk_is_full(tmp_path, monkeypatch, database):
    display, whole = Noting(2, 4), sj.run(resumed_run.setting(tmp_path / "whole"))
    save, replace, execute = checkpoints.save, segments.replace, store.Writer._execute

    def full():
        if display.full:
            error = sqlite3.OperationalError("database or disk is full")
            raise error if database else OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save", lambda *a: (full(), save(*a)))
    monkeypatch.setattr(segments, "replace", lambda *a: (full(), replace(*a)))
    if database:
        monkeypatch.setattr(store.Writer, "_execute", lambda *a: (full(), execute(*a)))
    result = sj.run(resumed_run.setting(tmp_path / "run", checkpoint_seconds=0), display=display)
    told = [text for text in display.notes if "cannot write" in text or "written to again" in text]
    assert len(told) == 2 and "training goes on" in told[0], display.notes
    assert result.best.scores == whole.best.scores
    with contextlib.closing(sj.open_run(tmp_path / "run")) as reader:
        with contextlib.closing(sj.open_run(tmp_path / "whole")) as other:
            assert reader.rounds() == other.rounds()
            same = [(r, t.to_pydict()) for r, t in reader.plans()]
            assert same == [(r, t.to_pydict()) for r, t in other.plans()]
            clocks = ["time", "seconds"]
            a, b = (each.frames().drop_columns(clocks) for each in (reader, other))
            assert repr(a.to_pydict()) == repr(b.to_pydict())
    # One that came while it was full is missing, later ones are there.
    assert checkpoints.rounds(tmp_path / "run")[-1] == result.frame.round


def test_an_illegal_plan_is_told_with_policy_field_and_member(tmp_path):
    def update(key, plan, frame, state):
        steps = jax.numpy.where(frame.round == 1, plan.steps.at[4].set(-1), plan.steps)
        return plan._replace(steps=steps), state

    bad = Policy(lambda frame: (), update, "bad")
    policy = sj.chain(sj.chain(sj.allocate.uniform(), bad), sj.perturb())
    with pytest.raises(sj.PlanError, match="policy bad: plan.steps: member 4 has -1"):
        sj.run(resumed_run.setting(tmp_path / "run", policy=policy))
