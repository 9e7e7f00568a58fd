import contextlib
import itertools
import os
import subprocess
import sys
import threading
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax.traverse_util import unflatten_dict

import swarmjax as sj
from swarmjax import anomaly, resources, stored, trial
from swarmjax.cohorts import Costs
from swarmjax.planner import Choices
from swarmjax.policy import slots, stateless
from swarmjax.progress import Silent
from swarmjax.types import Policy

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    optimizer=sj.choice("momentum", "adam"),
    activation=sj.choice("relu", "tanh"),
    depth=sj.structure(1, 2),
    width=sj.structure(4, 8),
)


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    return sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)


def setting(task, directory, **changes):
    given = {"task": task, "space": SPACE, "members": 10, "budget": 457, "round_steps": 12}
    return sj.Experiment(**given | {"directory": directory, "seed": 3} | changes)


@pytest.fixture(scope="module")
def first(task, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "first"
    return sj.run(setting(task, directory))


@pytest.fixture(scope="module")
def traced(task, tmp_path_factory):
    """The same run, of which more is kept."""
    directory = tmp_path_factory.mktemp("runs") / "traced"
    kept = {"window": 4, "trace": (3, 7), "parameters": ["*/kernel"]}
    return sj.run(setting(task, directory, **kept))


def states(trainer, frame):
    return [trainer.network(i, frame.genome).member for i in range(len(frame.alive))]


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def timeless(frame):
    """The arrays of a Frame that do not depend on the clock."""
    return frame._replace(space=0, seconds=0)


def table(directory):
    return pd.read_parquet(directory / "frames")


def test_alarms_are_told_once_and_lineages_counted(task, tmp_path, monkeypatch):
    # Who trains is then an outlier, whatever its loss.
    monkeypatch.setitem(anomaly.THRESHOLDS, "outlier", -1e9)
    sj.run(setting(task, tmp_path / "run", members=4, policy="random_search", budget=150))
    reader = sj.open_run(tmp_path / "run")
    alarms = [event for event in reader.events() if event.kind == "outlier"]
    assert [(event.round, event.member) for event in alarms] == [(1, member) for member in range(4)]
    assert alarms[2].text.startswith("member 2: its loss is far above the swarm's at step 12")
    # The robust z-score of the log losses that the round stored, against the threshold of the time.
    first = table(tmp_path / "run").query("round == 1").sort_values("member").train_loss.to_numpy()
    loss = np.log(first)
    centre = np.sort(loss)[1]
    scale = max(np.sort(np.abs(loss - centre))[1] / 0.6745, 0.1)
    np.testing.assert_allclose([a.value for a in alarms], (loss - centre) / scale, atol=1e-4)
    assert {alarm.threshold for alarm in alarms} == {-1e9}
    assert all(e.value is e.threshold is None for e in reader.events() if e.kind == "compiled")
    assert reader.status().lineages == 4
    assert (table(tmp_path / "run").alarm == anomaly.bits(["outlier"])).sum() > 4


def test_memory_that_keeps_growing_is_told(task, tmp_path, monkeypatch):
    """By a thirtieth in each round, on the devices alone, once they are settled."""
    used = itertools.count(20)
    monkeypatch.setattr(resources, "memory_in_use", lambda: (1e9, next(used) * 1e6))
    sj.run(
        setting(task, tmp_path / "run", members=3, policy="random_search", budget=66, round_steps=1)
    )
    with contextlib.closing(stored.open_run(tmp_path / "run")) as reader:
        (told,) = (event[2:] for event in reader.events() if event.kind == "memory")
    text = "memory of the devices keeps growing (0.267 > 0.2)"
    assert told == (19, "memory", None, text, pytest.approx(8 / 30, abs=1e-6), 0.2)


def test_the_budget_is_spent_to_the_last_step(first):
    rows = table(first.directory)
    assert rows.steps.sum() == 457
    # What the devices counted, along each network's ancestry.
    last = rows[rows["round"] == rows["round"].max()].sort_values("member")
    counted = [int(first.trainer.network(i, first.frame.genome).member.step) for i in range(10)]
    assert counted == last.step.tolist()
    assert first.frame.remaining == 0
    granted = {r: p["steps"].to_numpy() for r, p in stored.open_run(first.directory).plans()}
    for round, taken in rows.groupby("round"):
        assert taken.sort_values("member").steps.tolist() == granted[round].tolist()
        assert taken.steps.sum() <= 120


def test_a_step_count_is_the_parents_plus_the_steps_taken(first):
    rows = table(first.directory).sort_values(["round", "member"])
    before = np.zeros(10, int)
    for _, now in rows.groupby("round"):
        copied = now.parent.to_numpy()
        start = np.where(now.fresh, 0, before[copied])
        assert (now.step.to_numpy() == start + now.steps.to_numpy()).all()
        before = now.step.to_numpy()


def test_the_same_seed_gives_the_same_run_to_the_bit_whatever_is_kept_of_it(first, traced):
    second = traced
    a, b = table(first.directory), table(second.directory)
    clocks = ["time", "seconds"]
    pd.testing.assert_frame_equal(a.drop(columns=clocks), b.drop(columns=clocks))
    assert same(states(first.trainer, first.frame), states(second.trainer, second.frame))
    assert same(first.best.params, second.best.params)


def test_windows_put_together_are_what_the_frames_say(first, traced):
    for run, size in ((first, 16), (traced, 4)):
        with contextlib.closing(sj.open_run(run.directory)) as reader:
            windows, config = reader.windows().to_pandas(), reader.config
        assert config["window"] == size and windows.steps.max() <= size
        not_last = windows.duplicated(["round", "member"], keep="last")
        assert (windows.steps[not_last] == size).all()
        windows["total"] = windows.train_loss * windows.steps
        sums = windows.groupby(["round", "member"])[["steps", "total"]].sum()
        ends = windows.groupby(["round", "member"])[["step", "birth"]].last()
        rows = table(run.directory).query("steps > 0").set_index(["round", "member"]).sort_index()
        assert (sums.steps == rows.steps).all() and len(sums) == len(rows)
        means = (sums.total / sums.steps).to_numpy()
        assert means == pytest.approx(rows.train_loss.to_numpy(), rel=1e-4)
        assert (ends == rows[["step", "birth"]]).all(axis=None)


def test_every_step_of_traced_members_is_kept_and_their_parameters(first, traced):
    with contextlib.closing(sj.open_run(traced.directory)) as reader:
        steps, windows = reader.rows("steps").to_pandas(), reader.windows(members=[3, 7])
        parameters, usage = reader.rows("parameters").to_pandas(), reader.summaries("usage")
        spent = reader.resources().to_pandas()
    keys = ["round", "member"]
    whole = windows.to_pandas().groupby(keys).agg({"steps": "sum", "train_loss_min": "min"})
    each = steps.groupby(keys).train_loss.agg(["count", "min"])
    assert (each["count"] == whole.steps).all()
    assert (each["min"] == whole.train_loss_min).all()
    assert (steps.groupby(keys).step.diff().dropna() == 1).all()
    last = parameters[parameters["round"] == parameters["round"].max()]
    own = sj.take_out(traced.trainer, traced.frame, 7).params["Dense_0"]["kernel"]
    (kept,) = last.query("member == 7 and parameter == 'Dense_0/kernel'").itertuples()
    assert kept.values.tolist() == own.ravel().tolist() and kept.max == pytest.approx(own.max())
    assert set(last.member) == {3, 7} and set(last.parameter) <= {
        f"Dense_{i}/kernel" for i in range(3)
    }
    assert usage.num_rows == traced.frame.round and spent.cpu_seconds.sum() > 0
    with contextlib.closing(sj.open_run(first.directory)) as reader:
        with pytest.raises(sj.InputError, match="has no steps"):
            reader.rows("steps")


def test_another_seed_gives_another_run(task, first, tmp_path):
    other = sj.run(setting(task, tmp_path / "other", seed=4))
    assert not same(first.frame.genome, other.frame.genome)


def test_replaying_the_stored_plans_gives_the_same_weights(task, first):
    trainer, frame = sj.replay(setting(task, first.directory))
    assert same(states(trainer, frame), states(first.trainer, first.frame))
    assert same(timeless(frame), timeless(first.frame))


def test_a_replay_takes_the_recorded_choices_whatever_is_found_now(
    task, first, tmp_path, monkeypatch
):
    """Chunks of one and other programs give other last bits; the record repeats them."""
    chosen = Choices(Costs(1e-9, 1e9, 1e-9), devices=1)
    chunk = lambda *_: (1, "made up")  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(trial, "machine_costs", lambda *_: chosen.costs)
        patch.setattr(trial, "choose_chunk", chunk)
        patch.setattr(trial, "choose_devices", lambda *_: (1, "made up"))
        run = sj.run(setting(task, tmp_path / "one"))
    recorded = Choices.from_json(stored.open_run(run.directory).engine())
    assert recorded.costs == chosen.costs and set(recorded.chunks.values()) == {1}
    assert recorded.devices == 1
    assert len(recorded.chunks) == 2
    assert not same(states(run.trainer, run.frame), states(first.trainer, first.frame))
    for trials in ("choose_chunk", "choose_devices"):
        monkeypatch.setattr(trial, trials, None)
    trainer, frame = sj.replay(setting(task, run.directory))
    assert same(states(trainer, frame), states(run.trainer, run.frame))
    assert same(timeless(frame), timeless(run.frame))


def test_members_kept_on_the_host_are_the_same_to_the_bit(task, first, tmp_path):
    """Of mixed architectures on eight devices, some copied and some resized."""
    result = sj.run(setting(task, tmp_path / "host", storage="host"))
    for run, kept in ((first, False), (result, True)):
        told = [event.text for event in sj.open_run(run.directory).events()]
        assert any("in the memory of the host" in text for text in told) == kept
    rows = table(result.directory).query("round > 1")
    assert (rows.parent != rows.member).any() and rows[["depth", "width"]].nunique().prod() == 4
    assert same(states(result.trainer, result.frame), states(first.trainer, first.frame))
    assert same(timeless(result.frame), timeless(first.frame))


def test_a_replay_may_stop_early(task, first):
    _, frame = sj.replay(setting(task, first.directory), rounds=2)
    assert frame.round == 2
    shown = table(first.directory).query("round == 2").sort_values("member")
    assert shown.train_loss.to_numpy() == pytest.approx(frame.loss)


@pytest.mark.parametrize("changes", [{"seed": 9}, {"budget": 458}, {"members": 9}])
def test_replay_refuses_another_experiment(task, first, changes):
    with pytest.raises(sj.InputError, match=f"holds a run with {next(iter(changes))}"):
        sj.replay(setting(task, first.directory, **changes))


def test_replay_needs_a_directory(task):
    with pytest.raises(sj.InputError, match="needs the directory"):
        sj.replay(setting(task, None))


def test_the_best_network_is_an_ordinary_flax_model(task, first):
    best = first.best
    logits = best.model.apply({"params": best.params}, task.valid.x)
    assert best.scores["valid_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == task.valid.y))
    tested = best.model.apply(best.variables, task.test.x).argmax(1)
    assert best.scores["test_accuracy"] == pytest.approx(np.mean(tested == task.test.y))
    assert best.scores["valid_accuracy"] == pytest.approx(
        table(first.directory).valid_accuracy.max()
    )


def test_the_stored_best_is_the_returned_one(first):
    stored, record = sj.open_run(first.directory).best()
    params = unflatten_dict({tuple(path.split("/")): array for path, array in stored.items()})
    assert same(params, first.best.params)
    assert record["genome"] == first.best.genome and record["scores"] == first.best.scores


def test_the_status_and_events_tell_the_story(first):
    reader = sj.open_run(first.directory)
    status, kinds = reader.status(), [event.kind for event in reader.events()]
    assert (status.state, status.done, status.budget) == ("finished", 457, 457)
    assert status.best == pytest.approx(first.best.scores["valid_accuracy"])
    assert "compiled" in kinds and kinds[-1] == "finished"
    assert reader.config["seed"] == 3 and reader.config["metric"] == "valid_accuracy"


def test_a_run_imports_nothing_that_it_does_not_need(tmp_path):
    """Each of these would make every start longer by a third of a second to two seconds."""
    source = (
        "import sys\n"
        "import swarmjax as sj\n"
        "space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), activation=sj.choice('relu'))\n"
        "sj.run(task='digits', space=space, members=2, budget=4, directory=sys.argv[1])\n"
        "print(*sys.modules)\n"
    )
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    command = [sys.executable, "-c", source, str(tmp_path / "run")]
    shown = subprocess.run(
        command, env=os.environ | cache, capture_output=True, text=True, check=True
    )
    unwanted = {"pandas", "sklearn", "scipy", "orbax", "flax.nnx", "panel", "holoviews"}
    assert not unwanted & set(shown.stdout.split())


class Counting(Silent):
    """Notes how many programs there were after every round."""

    def __init__(self):
        self.now, self.after = 0, {}

    def compiling(self, programs):
        self.now = programs.begun

    def show(self, status):
        if status.state == "running":
            self.after[status.round] = self.now


def test_after_two_rounds_nothing_is_compiled(task, tmp_path):
    def renew(key, plan, frame):
        # As many fresh networks as the round is old, of the architectures there are.
        fresh = slots(frame) < frame.round
        return plan._replace(
            fresh=fresh & (frame.round > 0), parent=jnp.where(fresh, slots(frame), plan.parent)
        )

    links = sj.exploit(0.4), stateless(renew, "renew"), sj.softmax(0.5), sj.perturb()
    display = Counting()
    experiment = setting(task, tmp_path / "c", policy=sj.chain(*links), budget=900)
    result = sj.run(experiment, display=display)
    rows = table(result.directory).query("round > 2")
    assert rows.fresh.any() and (rows.parent != rows.member).any() and rows.steps.nunique() > 2
    assert display.after[0] < display.after[1] <= display.after[2]
    assert {display.after[round] for round in range(2, int(result.frame.round) + 1)} == {
        display.after[2]
    }
    told = [e.text for e in sj.open_run(result.directory).events() if "compiling took" in e.text]
    assert any(f" {display.after[2]} program" in text for text in told)


def test_a_second_run_in_a_process_compiles_nothing_that_the_first_did(task, tmp_path):
    # A task of its own, of which nothing was compiled before.
    own, counts = replace(task, name="own"), []
    for number in range(2):
        display = Counting()
        goal = "accuracy=1, parameters<=1e5"
        experiment = setting(own, tmp_path / str(number), policy="swarm", goal=goal)
        sj.run(experiment, display=display)
        counts.append(display.now)
    assert counts[0] > 0 == counts[1]


def test_a_policy_that_has_no_hash_is_followed_all_the_same(task, tmp_path):
    even = sj.allocate.uniform()._replace(writes={"steps"})
    result = sj.run(setting(task, tmp_path / "run", policy=even))
    assert result.frame.remaining == 0


class Net(nn.Module):
    """A user's module: BatchNorm, dropout, a structural gene and a traced one."""

    width: int

    @nn.compact
    def __call__(self, x, train: bool, genome):
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.relu(nn.Dense(self.width)(x) * genome["gain"])
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(2)(x)


def test_a_users_module_with_batchnorm_dropout_and_optimizer_trains(task, tmp_path):
    space = sj.Space(
        rate=sj.log_uniform(1e-3, 1e-1), gain=sj.uniform(0.5, 2.0), width=sj.structure(4, 8)
    )
    settings = {"space": space, "model": Net, "optimizer": lambda genes: optax.adam(genes["rate"])}
    result = sj.run(setting(task, tmp_path / "own", **settings, budget=1200))
    best = result.best
    assert best.scores["valid_accuracy"] > 0.8
    assert best.genome["width"] == best.model.width
    outputs = best.model.apply(best.variables, task.valid.x, train=False, genome=best.genome)
    assert np.mean(outputs.argmax(1) == task.valid.y) == pytest.approx(
        best.scores["valid_accuracy"]
    )
    stored, _ = sj.open_run(result.directory).best()
    assert {"batch_stats/BatchNorm_0/mean", "Dense_0/kernel"} <= set(stored)
    replayed, frame = sj.replay(setting(task, result.directory, **settings, budget=1200))
    assert same(states(replayed, frame), states(result.trainer, result.frame))


class Tokens(nn.Module):
    """A user's module on whole numbers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Embed(6, 4)(x).mean(axis=1))


def test_tokens_metrics_without_value_and_low_precision_are_no_trouble(tmp_path):
    x = np.random.default_rng(0).integers(0, 6, (120, 5))
    unknown = {"accuracy": sj.tasks.accuracy, "f1": lambda outputs, y: outputs.sum() * np.nan}
    task = sj.tasks.arrays(x, (x == 2).any(axis=1), metrics=unknown, batch=16)
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1))
    result = sj.run(setting(task, tmp_path / "t", space=space, model=Tokens))
    assert result.frame.alive.all() and result.best.scores["valid_accuracy"] > 0.5
    _, record = sj.open_run(result.directory).best()
    assert record["scores"]["valid_f1"] is None


def test_regression_runs_under_the_default_policy(tmp_path):
    x = np.random.default_rng(1).normal(size=(200, 3))
    task = sj.tasks.arrays(x, x @ [1.0, -2.0, 0.5], batch=16)
    result = sj.run(setting(task, tmp_path / "r", budget=2000))
    assert result.best.scores["valid_r2"] > 0.8


def test_exploit_may_keep_architectures_and_adapt_the_weights(task, tmp_path):
    policy = sj.chain(sj.exploit(0.4, structure="keep"), sj.allocate.uniform(), sj.perturb())
    experiment = setting(task, tmp_path / "keep", policy=policy, budget=600)
    result = sj.run(experiment)
    rows = table(result.directory).sort_values(["round", "member"])
    shapes = rows.groupby("member")[["depth", "width"]].nunique()
    assert (shapes == 1).all(axis=None)
    copied = rows[(rows.parent != rows.member) & (rows["round"] > 1)]
    own, theirs = (
        rows.set_index(["round", "member"]).loc[list(zip(copied["round"], who, strict=True))]
        for who in (copied.member, copied.parent)
    )
    crossed = (own.depth.to_numpy() != theirs.depth.to_numpy()) | (
        own.width.to_numpy() != theirs.width.to_numpy()
    )
    assert crossed.any(), "some child has another architecture than its parent"
    assert rows.steps.sum() == 600 and rows.alive.all()
    trainer, frame = sj.replay(experiment)
    assert same(states(trainer, frame), states(result.trainer, result.frame))


def test_diverged_members_are_replaced_and_reported(task, tmp_path):
    wild = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e30))
    result = sj.run(setting(task, tmp_path / "w", space=wild, budget=1500, policy="pbt"))
    died = [e.member for e in sj.open_run(result.directory).events() if e.kind == "died"]
    assert died and np.isfinite(result.best.scores["valid_loss"])
    rows = table(result.directory)
    assert rows.steps.sum() == 1500
    dead = rows[~rows.alive]
    assert len(dead) and (dead["round"] < rows["round"].max()).any()


def test_a_swarm_that_diverges_altogether_says_so(task, tmp_path):
    hopeless = sj.Space(learning_rate=sj.log_uniform(1e37, 1e38))
    settings = {"space": hopeless, "policy": "random_search"}
    with pytest.raises(sj.DivergedError, match="all 10 members diverged.*lower the learning rates"):
        sj.run(setting(task, tmp_path / "h", **settings))
    reader = sj.open_run(tmp_path / "h")
    assert reader.status().state == "failed" and reader.status().alive == 0


def test_an_illegal_plan_names_the_field_and_the_member(task, tmp_path):
    def update(key, plan, frame, state):
        return plan._replace(steps=plan.steps.at[4].set(-1)), state

    policy = Policy(lambda frame: (), update, "bad")
    with pytest.raises(sj.PlanError, match="steps: member 4 has -1"):
        sj.run(setting(task, tmp_path / "p", policy=policy))
    assert sj.open_run(tmp_path / "p").status().state == "failed"


def test_a_policy_that_grants_nothing_is_refused_rather_than_waited_for(task, tmp_path):
    def update(key, plan, frame, state):
        return plan._replace(steps=0 * plan.steps), state

    with pytest.raises(sj.PlanError, match="idle grants no member a step"):
        sj.run(setting(task, tmp_path / "i", policy=Policy(lambda frame: (), update, "idle")))


def test_what_is_odd_about_a_policy_is_told_in_the_events(task, tmp_path):
    sj.run(setting(task, tmp_path / "odd", policy="pbt", members=4, budget=40))
    with contextlib.closing(sj.open_run(tmp_path / "odd")) as reader:
        told = [event.text for event in reader.events() if event.kind == "note"]
    assert told == [
        "the budget is spent in one round, before exploit can tell members apart; lower "
        "round_steps or raise budget"
    ]


def test_an_interrupted_run_is_readable_and_says_so(task, tmp_path):
    class Impatient(Silent):
        def show(self, status):
            if status.round == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sj.run(setting(task, tmp_path / "k"), display=Impatient())
    reader = sj.open_run(tmp_path / "k")
    assert reader.status().state == "stopped" and reader.rounds() == [1, 2]


def test_no_thread_outlives_a_run(first):
    assert not [t for t in threading.enumerate() if "beat" in t.name or "Thread-" in t.name]


def test_the_best_network_keeps_within_the_limits_of_the_goal(tmp_path):
    """Wide networks learn the spirals better, and are not what was asked for."""
    limited = sj.run(
        task="spirals", space=sj.Space(learning_rate=sj.log_uniform(1e-2, 2e-2),
                                       width=sj.structure(2, 64)),
        policy="pbt", goal="accuracy=1, parameters<=100", members=6, budget=600, seed=1,
        directory=tmp_path / "limited",
    )  # fmt: skip
    assert limited.best.genome["width"] == 2
    widths = {best.genome["width"] for best in limited.ensemble.networks.values()}
    assert widths == {2}


def test_limits_that_nobody_keeps_are_told(tmp_path):
    result = sj.run(
        task="spirals", space=sj.Space(learning_rate=sj.log_uniform(1e-2, 2e-2)), policy="pbt",
        goal="accuracy=1, parameters<=1", members=2, budget=20, directory=tmp_path / "none",
    )  # fmt: skip
    assert result.best.scores["valid_accuracy"] > 0
    with contextlib.closing(sj.open_run(result.directory)) as reader:
        assert any("nobody ever kept within the limits" in e.text for e in reader.events())
