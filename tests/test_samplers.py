import functools
import importlib.util
import subprocess
import sys
from dataclasses import replace

import hypothesis.strategies as st
import jax
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from random_spaces import spaces

import swarmjax as sj
from swarmjax import space
from swarmjax.allocate import uniform
from swarmjax.fitness import weighted
from swarmjax.policy import check_plan, keep
from swarmjax.samplers import NAMES, Trials, optuna_sampler, record
from swarmjax.types import InputError, Policy

nan, inf = np.nan, np.inf
PLAIN = space.Space(
    rate=space.log_uniform(1e-4, 1e-1), momentum=space.uniform(0.0, 1.0),
    kind=space.choice("x", "y", "z"), depth=space.structure(1, 2, 3),
)  # fmt: skip
HERE = [name for name in NAMES if name != "gp" or importlib.util.find_spec("torch")]


def on_host(frame):
    return jax.tree.map(np.asarray, frame)


def first(frames, members, searched=PLAIN):
    none = np.full(members, -1)
    return on_host(frames(np.full(members, nan), round=0, birth=none, space=searched))


def quality(genome):
    """At most 1; 0.33 on average over the space."""
    rate = np.log10(genome["rate"])
    missed = abs(rate + 2.0) / 2 + abs(genome["momentum"] - 0.2) + 0.3 * (genome["kind"] != 1)
    return (1.0 - missed).astype(np.float32)


def next_frame(frame, plan, newborn):
    birth = frame.birth.copy()
    birth[newborn] = frame.birth.max() + 1 + np.arange(newborn.sum())
    return frame._replace(
        round=frame.round + np.int32(1), birth=birth, genome=plan.genome,
        metrics={"valid_accuracy": quality(plan.genome)},
    )  # fmt: skip


@pytest.mark.parametrize("name", HERE)
def test_it_learns_what_is_good(frames, name):
    members = 20
    policy, frame = optuna_sampler(name), first(frames, members)
    state, everyone, means = policy.init(frame), np.ones(members, bool), []
    for round in range(5):
        plan = keep(frame)._replace(fresh=everyone if round else np.zeros(members, bool))
        plan, state = policy.update(jax.random.key(round), plan, frame, state)
        check_plan(plan, frame)
        frame = next_frame(frame, plan, everyone)
        means.append(quality(plan.genome).mean())
    assert len(state.birth) == 80
    assert means[0] < 0.3 and max(means[3:]) > means[0] + 0.2


def test_the_fresh_get_all_genes_and_children_keep_their_structure(frames):
    frame = on_host(frames(np.linspace(0.1, 0.9, 12), space=PLAIN))
    fresh = np.arange(12) < 3
    parent = np.where(np.arange(12) < 6, 11, np.arange(12)).astype(np.int32)
    plan = keep(frame)._replace(fresh=fresh, parent=parent)
    policy, depths = optuna_sampler(), set()
    before = jax.tree.map(np.copy, plan)
    for seed in range(4):
        after, _ = policy.update(jax.random.key(seed), plan, frame, policy.init(frame))
        changed = after.genome["rate"] != plan.genome["rate"]
        assert changed.tolist() == (np.arange(12) < 6).tolist()
        np.testing.assert_array_equal(after.genome["depth"][3:], plan.genome["depth"][3:])
        depths |= set(after.genome["depth"][:3].tolist())
    assert depths == {0, 1, 2}
    jax.tree.map(np.testing.assert_array_equal, plan, before)


def test_it_is_a_function_of_key_and_trials(frames):
    frame = on_host(frames(np.linspace(0.1, 0.9, 16), space=PLAIN))
    plan = keep(frame)._replace(fresh=np.ones(16, bool))
    one, two = optuna_sampler(), optuna_sampler()
    plans = [
        policy.update(jax.random.key(seed), plan, frame, policy.init(frame))[0].genome["rate"]
        for policy, seed in ((one, 0), (one, 1), (one, 0), (two, 0))
    ]
    np.testing.assert_array_equal(plans[0], plans[2])
    np.testing.assert_array_equal(plans[0], plans[3])
    assert (plans[0] != plans[1]).all()
    assert len(set(plans[0].tolist())) == 16


def test_of_a_network_only_the_latest_counts(frames):
    trials = Trials(
        np.int32([0, 1, 3]), np.float32([0.1, 0.2, 0.3]),
        {"rate": np.float32([1e-3, 2e-3, 3e-3])},
    )  # fmt: skip
    genome = {"rate": np.float32([4e-3, 5e-3, 6e-3, 7e-3])}
    frame = frames([0.5, 0.6, nan, nan], birth=[1, 5, 3, 4], alive=[True, True, False, True])
    frame = on_host(frame._replace(genome=genome))
    score = np.float32([0.5, 0.6, -inf, -inf])
    after = record(score, frame, trials, 9)
    assert after.birth.tolist() == [0, 1, 3, 5]
    np.testing.assert_allclose(after.value, [0.1, 0.5, -inf, 0.6])
    np.testing.assert_allclose(after.genome["rate"], [1e-3, 4e-3, 6e-3, 5e-3])
    assert record(score, frame, trials, 2).birth.tolist() == [3, 5]


def test_who_took_no_step_is_not_told(frames):
    none = Trials(np.zeros(0, np.int32), np.zeros(0, np.float32), {"rate": np.zeros(0, np.float32)})
    seen = none._replace(
        birth=np.int32([5]), value=np.float32([0.3]), genome={"rate": np.float32([1e-3])}
    )
    frame = on_host(frames([0.5, 0.6, 0.7], birth=[5, 6, 7], steps=[0, 0, 10]))
    frame = frame._replace(genome={"rate": np.float32([2e-3, 3e-3, 4e-3])})
    score = np.float32([0.5, 0.6, 0.7])
    assert record(score, frame, none, 9).birth.tolist() == [7]
    # Whoever was told of stays so, with the genes that it trained with.
    after = record(score, frame, seen, 9)
    assert after.birth.tolist() == [5, 7]
    np.testing.assert_allclose(after.genome["rate"], [1e-3, 4e-3])
    trained = frame._replace(steps=np.full(3, 4, np.int32))
    assert record(score, trained, after, 9).birth.tolist() == [5, 6, 7]


def test_the_diverged_are_avoided_as_the_worst(frames):
    frame = first(frames, 60)
    genome = frame.genome | {"momentum": np.linspace(0, 1, 60, dtype=np.float32)}
    alive = genome["momentum"] < 0.5
    frame = frame._replace(
        round=np.int32(1), genome=genome, alive=alive, birth=np.arange(60, dtype=np.int32),
        metrics={"valid_accuracy": np.where(alive, 0.5, nan).astype(np.float32)},
    )  # fmt: skip
    policy = optuna_sampler()
    plan = keep(frame)._replace(fresh=~alive)
    after, _ = policy.update(jax.random.key(0), plan, frame, policy.init(frame))
    assert (after.genome["momentum"][~alive] < 0.5).mean() > 0.7
    everyone = frame._replace(
        alive=np.zeros(60, bool), metrics={"valid_accuracy": np.full(60, nan)}
    )
    plan = keep(everyone)._replace(fresh=np.ones(60, bool))
    check_plan(policy.update(jax.random.key(0), plan, everyone, policy.init(frame))[0], everyone)


@given(spaces, st.sampled_from(HERE), st.integers(0, 99))
@settings(max_examples=12)
def test_values_never_leave_their_ranges(frames, searched, name, seed):
    policy = optuna_sampler(name)
    frame = on_host(frames(np.linspace(0.1, 0.9, 12), space=searched))
    # Values at the very ends are told as well.
    ends = np.float32([0, 1] * 6)
    genome = {n: np.asarray(gene.decode(ends)) for n, gene in searched.genes}
    frame = frame._replace(genome=genome)
    plan = keep(frame)._replace(fresh=np.arange(12) < 4, parent=np.full(12, 7, np.int32))
    after, _ = policy.update(jax.random.key(seed), plan, frame, policy.init(frame))
    check_plan(after, frame)
    for name, values in plan.genome.items():
        assert after.genome[name].dtype == values.dtype


@pytest.mark.parametrize(
    "make",
    [
        optuna.samplers.RandomSampler,
        optuna.samplers.QMCSampler,
        functools.partial(optuna.samplers.TPESampler, n_startup_trials=2),
    ],
)
def test_any_sampler_made_of_a_seed(frames, make):
    frame = first(frames, 8)
    policy = optuna_sampler(make)
    plan, _ = policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))
    assert (plan.genome["rate"] != frame.genome["rate"]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optuna_sampler("tep"), "no sampler is called 'tep'; known: tpe, cmaes, gp, nsga2"),
        (lambda: optuna_sampler(optuna.samplers.TPESampler()), "got TPESampler; pass a class"),
        (lambda: optuna_sampler(lambda seed: seed), "make a sampler of Optuna, got int"),
        (lambda: optuna_sampler(lambda: None), "cannot be made of a seed: .*unexpected keyword"),
        (lambda: optuna_sampler(limit=0), "limit of at least 1 trial, got 0"),
    ],
)
def test_bad_samplers(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("optuna", "tpe", r"needs Optuna; install the extra: pip install 'swarmjax\[optuna\]'"),
        ("cmaes", "cmaes", "CmaEsSampler needs the package cmaes; install it"),
        ("torch", "gp", "GPSampler needs the package torch; install it"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, package, name, message):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=message):
        optuna_sampler(name)


def test_optuna_is_loaded_only_when_used():
    code = "import sys, swarmjax; sys.exit('optuna' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_quiet_and_leaves_optunas_own_setting(frames, capfd):
    before, frame = optuna.logging.get_verbosity(), first(frames, 4)
    policy = optuna_sampler("cmaes")
    policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_names_and_a_goal_that_the_task_does_not_report(frames):
    assert optuna_sampler().name == "optuna_sampler('tpe')" and optuna_sampler().host
    partial = functools.partial(optuna.samplers.TPESampler, multivariate=True)
    assert optuna_sampler(partial).name == "optuna_sampler(TPESampler)"
    policy = optuna_sampler("nsga2", goal=weighted(valid_f1=1.0))
    assert policy.name == "optuna_sampler('nsga2', goal=weighted(valid_f1=1.0))"
    with pytest.raises(InputError, match="the goal needs valid_f1"):
        policy.init(first(frames, 2))


@pytest.fixture(scope="module")
def experiment():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    return sj.Experiment(
        task=sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=8), seed=5,
        space=sj.Space(
            learning_rate=sj.log_uniform(1e-3, 1e-1), momentum=sj.uniform(0.1, 0.9),
            width=sj.structure(4, 8),
        ),
        members=6, budget=180, round_steps=6,
        policy=sj.chain(
            sj.sobol(), sj.exploit(fraction=0.4), uniform(), sj.chain(sj.bandit()),
            optuna_sampler("tpe"),
        ),
    )  # fmt: skip


def test_a_run_on_the_host_repeats_and_replays_to_the_bit(experiment, tmp_path):
    one = sj.run(experiment, directory=tmp_path / "one")
    two = sj.run(experiment, directory=tmp_path / "two")
    plans = [list(sj.open_run(tmp_path / name).plans()) for name in ("one", "two")]
    assert len(plans[0]) == 5
    for (_, a), (_, b) in zip(*plans, strict=True):
        assert a.equals(b)
    # Some children got genes of their own.
    tables = [plan.to_pandas() for _, plan in plans[0]]
    moved = [table[table.parent != table.index] for table in tables[1:]]
    assert all(len(rows) == 2 for rows in moved)
    trainer, frame = sj.replay(replace(experiment, directory=tmp_path / "one"))
    runs = ((one.trainer, one.frame), (two.trainer, two.frame), (trainer, frame))
    for slot in range(6):
        members = [made.network(slot, shown.genome).member for made, shown in runs]
        a, *others = (jax.tree.leaves(member) for member in members)
        assert all(np.array_equal(x, y) for b in others for x, y in zip(a, b, strict=True))


def test_what_cannot_work_on_the_host_is_found_before_anything_is_written(experiment, tmp_path):
    calls = []

    def update(key, plan, frame, state):
        calls.append(frame)
        return plan, state

    costly = Policy(lambda frame: (), update, "costly", host=True)
    wrong = optuna_sampler(goal=weighted(valid_f1=1.0))
    for policy in (wrong, sj.chain(costly, sj.chain(wrong))):
        with pytest.raises(InputError, match="policy optuna_sampler.* fails: .* needs valid_f1"):
            sj.run(experiment, policy=policy, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists() and calls == []
