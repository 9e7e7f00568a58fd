import json
import os
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from paper import (
    bench_peers,
    environments,
    peer_jax,
    peer_loop,
    peer_protocol,
    peer_swarmjax,
    peers,
    peers_figures,
    peers_rows,
    peers_tables,
)
from paper import measure as measure_module
from paper.measure import ROOT, measure_row
from paper.peers import Case, Trial
from paper.peers_process import Line, PeerError, Run, parse, run
from swarmjax import mlp, optimizers, tasks


def program(tmp_path, text):
    """The command of a program whose text is given; `say(...)` prints a line."""
    head = """
    import json, sys, time
    def say(search, seconds, member_steps, valid=None, **more):
        told = {"search": search, "seconds": seconds, "member_steps": member_steps}
        print(json.dumps(told | {"valid": valid} | more), flush=True)
    """
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(head) + textwrap.dedent(text))
    return [sys.executable, str(file)]


def tried(tmp_path, text, limit=20.0, searches=1):
    return run(program(tmp_path, text), limit, os.environ, searches)


def line(arrived, steps, valid=None, test=None, search=0, seconds=None):
    return Line(arrived, search, arrived if seconds is None else seconds, steps, valid, test)


def trial(cold, reached=None, *, valid=0.9, test=0.9, seconds=None):
    return Trial(
        cold, cold, cold if seconds is None else seconds, 1.0, test is None, reached, reached, 100,
        valid, test, [(1.0, 0, None), (cold, 100, valid)],
    )  # fmt: skip


def test_a_program_is_heard_to_its_end(tmp_path):
    done = tried(
        tmp_path,
        """
        say(0, 0.0, 0)
        # Systems count a process's time in hundredths of a second, and may count a short one as 0.
        while time.process_time() < 0.3: pass
        say(0, 1.5, 40, 0.5)
        say(0, 2, 80, 0.5, test=0.25)
        """,
    )
    assert done.finished
    assert [each[1:] for each in done.lines] == [
        (0, 0.0, 0, None, None), (0, 1.5, 40, 0.5, None), (0, 2, 80, 0.5, 0.25),
    ]  # fmt: skip
    assert 0 < done.lines[0].arrived <= done.lines[2].arrived <= done.seconds
    assert 0.1 < done.cpu_seconds < 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("say(0, 0.0, 0); raise ValueError('no\\nluck')", "luck"),
        ("say(0, 0.0, 0); sys.exit(3)", "exit 3"),
        ("say(0, 0.0, 0)", "without the results of 1 searches"),
        ("print('Hello, world')", "nonsense: 'Hello, world"),
        ("print('[' * 100_000)", "nonsense"),
        ("print('x' * 10_000_000)", "nonsense"),
        ("say(0, 0.0, 50); say(0, 0.0, 40)", "took back"),
        ("say(1, 0.0, 50); say(0, 0.0, 60)", "took back"),
    ],
)
def test_a_program_that_fails_is_told_in_a_line(tmp_path, text, message):
    with pytest.raises(PeerError, match=message) as caught:
        tried(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    text = """
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    say(0, 0.0, child.pid)
    time.sleep(60)
    """
    start = time.perf_counter()
    done = tried(tmp_path, text, limit=5.0)
    assert not done.finished
    assert 5.0 <= done.seconds <= time.perf_counter() - start < 40.0
    assert not psutil.pid_exists(done.lines[0].member_steps)


def test_processor_time_is_that_of_the_first_search_with_all_who_took_part(tmp_path):
    text = """
    import subprocess
    burn = "import time\\nwhile time.process_time() < 1.1: pass\\nprint(flush=True); time.sleep(9)"
    child = subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE)
    child.stdout.readline()
    say(0, 1.0, 40, 0.5, test=0.5)
    time.sleep(0.5)
    child.kill()
    while time.process_time() < 4: pass
    say(1, 1.0, 40, 0.5, test=0.5)
    """
    # The child's 1.1 s may be told as a few hundredths less: see the first test.
    assert 1.0 <= tried(tmp_path, text, limit=60.0, searches=2).cpu_seconds < 3.0


def test_a_program_that_closes_its_output_and_hangs_is_ended_too(tmp_path):
    text = "import os; say(0, 0.0, 0); sys.stdout.flush(); os.close(1); time.sleep(60)"
    assert not tried(tmp_path, text, limit=1.5).finished


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": float("nan")}, {"seconds": -1.0}, {"seconds": "1"}, {"member_steps": 1.5},
        {"member_steps": -1}, {"member_steps": 10**30}, {"member_steps": True}, {"search": None},
        {"valid": 1.5}, {"test": float("inf")}, {"valid": "0.5"}, {"secret": 1},
    ],
)  # fmt: skip
def test_what_a_program_says_is_checked(change):
    fine = {"search": 0, "seconds": 1.0, "member_steps": 10, "valid": 0.5}
    assert parse(json.dumps(fine), 2.0) == Line(2.0, 0, 1.0, 10, 0.5, None)
    with pytest.raises(PeerError, match="nonsense"):
        parse(json.dumps(fine | change), 2.0)


def test_cold_counts_start_and_end_and_warm_the_second_search():
    lines = [
        line(3, 0, seconds=0), line(5, 50, 0.8, seconds=2), line(6, 100, 0.9, 0.7, seconds=3),
        line(6, 0, search=1, seconds=0), line(6.5, 50, 0.8, search=1, seconds=0.5),
        line(7, 100, 0.9, 0.7, search=1, seconds=1),
    ]  # fmt: skip
    found = peers.describe(Run(7.25, 5, True, lines), 100, 0.85, True)
    assert (found.cold, found.warm, found.seconds, found.cpu_seconds) == (6.25, 1, 7.25, 5)
    assert (found.reached, found.reached_warm) == (6, 1)
    assert (found.valid, found.test, found.member_steps, found.scaled) == (0.9, 0.7, 100, False)
    assert found.curve == [(3, 0, None), (5, 50, 0.8), (6, 100, 0.9)]


def test_what_needs_no_compiling_is_warm_once_it_has_begun():
    lines = [line(3, 0, seconds=0), line(7, 100, 0.9, 0.7, seconds=4)]
    found = peers.describe(Run(8, 5, True, lines), 100, 0.95, False)
    assert (found.cold, found.warm, found.reached) == (8, 4, None)
    assert peers.describe(Run(8, 5, True, lines), 100, 0.95, True).warm is None


def test_a_search_whose_time_was_up_is_scaled_at_its_own_pace():
    lines = [line(3, 0, seconds=0), line(5, 20, 0.5, seconds=2), line(9, 60, 0.6, seconds=6)]
    found = peers.describe(Run(10, 5, False, lines), 100, 0.55, False)
    # A tenth of a second a step: 80 more steps after the first 20.
    assert (found.cold, found.warm, found.scaled) == (13, 10, True)
    assert (found.reached, found.test) == (9, None)
    assert peers_rows.least(found) == 10
    still = peers.describe(Run(10, 5, False, lines[:2]), 100, None, False)
    assert (still.cold, still.warm, still.scaled) == (None, None, True)
    nothing = peers.describe(Run(10, 5, False, []), 100, 0.5, False)
    assert (nothing.cold, nothing.valid, nothing.curve, nothing.scaled) == (None, None, [], True)
    assert peers_rows.least(nothing) == 10


def fake(table):
    """`peers.measure` from a table of trials, or errors, by side; and what was asked of it."""
    asked = []

    def measure(side, case, seed, limit, target, install):
        asked.append((side, seed, limit))
        found = table[side]
        if isinstance(found, Exception):
            raise found
        return found

    return measure, asked


CASE = Case("digits", peers.mlps(), 4, 20, 10)


def test_programs_have_more_time_on_a_busy_machine(monkeypatch):
    monkeypatch.setattr(measure_module.resources, "cores", lambda: 2)
    for busy, times in ((0.0, 1.0), (2.0, 1.0), (6.0, 3.0)):
        monkeypatch.setattr(measure_module, "load", lambda busy=busy: busy)
        assert measure_module.patience() == times
    measure, asked = fake({"vmap": trial(3.0), "optuna": trial(3.0)})
    peers_rows.take_turns(("vmap", "optuna"), CASE, peers_rows.Series(1, 5, 9), measure=measure)
    assert [limit for _, _, limit in asked] == [27.0, 15.0]


@pytest.fixture
def idle(monkeypatch):
    monkeypatch.setattr(peers_rows, "patience", lambda: 1.0)


def test_sides_take_turns_and_one_that_fails_is_left_out(idle):
    table = {
        "swarmjax": trial(2.0), "optuna": PeerError("optuna: exit 1"), "vmap": trial(3.0),
        "ray-pbt": environments.NoEnvironment("no environment ray: disk full"),
    }  # fmt: skip
    measure, asked = fake(table)
    found = peers_rows.take_turns(tuple(table), CASE, peers_rows.Series(2, 5, 9), measure=measure)
    assert asked == [
        ("swarmjax", 0, 9), ("optuna", 0, 5), ("vmap", 0, 9), ("ray-pbt", 0, 5),
        ("vmap", 1, 9), ("swarmjax", 1, 9),
    ]  # fmt: skip
    assert {side: len(some) for side, some in found.trials.items()} == {"swarmjax": 2, "vmap": 2}
    with pytest.raises(environments.NoEnvironment):
        found.of("ray-pbt")
    assert found.record()["absent"]["optuna"] == "optuna: exit 1"
    json.dumps(found.record())


def test_no_seed_is_begun_when_the_time_is_up():
    measure, asked = fake({"vmap": trial(3.0)})
    peers_rows.take_turns(("vmap",), CASE, peers_rows.Series(5, 5, 9, 0.0), measure=measure)
    assert len(asked) == 1


def test_a_bar_is_skipped_without_the_environment_and_failed_without_a_result(monkeypatch):
    size = peers_rows.Size(CASE, peers_rows.Series(1, 5, 9))
    row = peers_rows.against("speed", "swarmjax", "ray-pbt", 4.0, size, size)
    missing = environments.NoEnvironment("no environment ray: disk full")
    reasons = []
    for theirs in (missing, PeerError("ray-pbt: exit 1"), trial(10.0), trial(5.0)):
        measure, _ = fake({"swarmjax": trial(2.0), "ray-pbt": theirs})
        monkeypatch.setattr(peers_rows.take_turns, "__defaults__", (None, None, measure))
        (bar,), record = measure_row(row, False)
        reasons.append(bar.line())
        json.dumps(record)
    assert reasons == [
        "bar speed - >=4 skipped (no environment ray: disk full)",
        "bar speed - >=4 failed (PeerError: ray-pbt: exit 1)",
        "bar speed 5 >=4 met",
        "bar speed 2.5 >=4 missed",
    ]
    other = peers_rows.Size(CASE._replace(steps=10), peers_rows.Series(1, 5, 9))
    assert peers_rows.against("speed", "swarmjax", "ray-pbt", 4.0, size, other).targets(True) == {}


def test_peers_are_compared_by_the_clock_and_by_processor_time():
    mine, theirs = [trial(2.0), trial(4.0)], [trial(12.0)._replace(cpu_seconds=6.0)]
    found = peers_rows.Found({"swarmjax": mine, "ray-pbt": theirs}, {})
    ratios = {
        c: peers_rows.ratio(found, "swarmjax", "ray-pbt", of) for c, of in peers_rows.CLOCKS.items()
    }
    assert ratios == {"wall": 4.0, "cpu": 6.0}


def test_the_best_peer_sets_the_time_to_the_target():
    trials = {
        "swarmjax": [trial(9, 2.0), trial(9, 4.0)],
        "vmap": [trial(30, 9.0), trial(30, 12.0)],
        # Not reached: it had all of its time.
        "optuna": [trial(8, None, seconds=8.0)] * 2,
        "loop": [trial(80, 70.0)],
    }
    found = peers_rows.Found(trials, {})
    assert peers_rows.lead(found, "reached") == 8.0 / 3.0
    assert peers_rows.contenders(found) == ["swarmjax", "vmap", "optuna"]
    lost = peers_rows.Found(trials | {"swarmjax": [trial(9, None)]}, {})
    assert peers_rows.lead(lost, "reached") == 0.0
    alone = peers_rows.Found({"swarmjax": trials["swarmjax"]}, {"vmap": PeerError("vmap: exit 1")})
    with pytest.raises(PeerError, match="vmap"):
        peers_rows.lead(alone, "reached")


def test_figures_are_drawn_whatever_is_missing(tmp_path):
    slow = trial(60.0, test=None)
    found = {16: {"swarmjax": [trial(2.0)], "vmap": [slow]}, 64: {"swarmjax": [trial(3.0)]}}
    found[64]["optuna"] = [Trial(None, None, 20.0, 9.0, True, None, None, 0, None, None, [])]
    paths = peers_figures.sweep("members", "networks", found, True, tmp_path)
    paths += peers_figures.curves("spirals", found[16] | found[64], 0.95, False, tmp_path)
    names = ["peers-members-quick.svg", "peers-members-quick.png", "peers-spirals.svg"]
    assert [path.name for path in paths] == [*names, "peers-spirals.png"]
    assert all(path.stat().st_size > 5000 for path in paths)
    looks = [tuple(style.values()) for style in peers_figures.STYLES.values()]
    assert len(set(looks)) == len(looks) == len(peers.SIDES)


def test_sweeps_and_races_are_drawn_side_by_side(tmp_path):
    found = {16: {"swarmjax": [trial(2.0)], "vmap": [trial(60.0, test=None)]}}
    paths = peers_figures.crossover({"networks": found, "steps": found}, tmp_path)
    paths += peers_figures.races({"spirals": (0.95, found[16]), "teacher": (0.6, {})}, tmp_path)
    assert [path.stem for path in paths[::2]] == ["peers-crossover", "peers-races"]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_the_paper_tells_how_every_side_was_set_up_and_who_was_there_by_when():
    rows = {side: settings for side, _, settings in peers_tables.setups()}
    assert set(rows) == set(peers.SIDES)
    assert not any(mark in "".join(rows.values()) for mark in "`[|")
    trials = {
        "swarmjax": [trial(9, 2.0, test=0.9), trial(9, 4.0, test=0.8)],
        "optuna": [trial(8, None, seconds=7.0, test=None)],
    }  # fmt: skip
    raw = json.loads(json.dumps(peers_rows.Found(trials, {}).record()))
    assert peers_tables.trials_of(raw)["swarmjax"][1].test == 0.8
    assert peers_tables.reached(raw) == {
        "swarmjax": {"seconds": 3.0, "reached": True, "test": pytest.approx(0.85), "seeds": 2},
        "optuna": {"seconds": 7.0, "reached": False, "test": None, "seeds": 1},
    }


WANTED = {"ray": ("ray==2",)}


def test_an_environment_is_made_once_and_made_again_when_it_was_cut_off(tmp_path, monkeypatch):
    ran = []

    def install(*command):
        ran.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir()
        return '[{"name": "ray", "version": "2.1"}, {"name": "pip", "version": "9"}]'

    monkeypatch.setattr(environments, "_run", install)
    assert environments.versions_of("ray", WANTED, tmp_path) == {}
    folder = environments.python_of("ray", WANTED, tmp_path).parents[1]
    (folder / "versions.json").unlink()
    ran.clear()
    (folder / "half").touch()
    for _ in range(2):
        python = environments.python_of("ray", WANTED, tmp_path)
        assert python == folder / "bin" / "python"
        assert len(ran) == 3
    assert ran[1] == (str(python), "-m", "pip", "install", "--quiet", "ray==2")
    assert not (folder / "half").exists()
    assert environments.versions_of("ray", WANTED, tmp_path) == {"ray": "2.1"}
    with pytest.raises(environments.NoEnvironment, match="paper.environments ray"):
        environments.python_of("ray", {"ray": ("ray==3",)}, tmp_path, make=False)
    assert environments.python_of("ray", WANTED, tmp_path, make=False) == python
    assert len(ran) == 3
    other = environments.python_of("ray", {"ray": ("ray==3",)}, tmp_path)
    assert other != python


def test_an_environment_that_cannot_be_made_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    def install(*command):
        return run_for_real(sys.executable, "-c", "import sys; sys.exit('\\nno\\nroom\\n')")

    run_for_real = environments._run
    monkeypatch.setattr(environments, "_run", install)
    with pytest.raises(environments.NoEnvironment, match="^no environment ray: room$") as caught:
        environments.python_of("ray", WANTED, tmp_path)
    assert caught.value.advice == "no environment ray: room"
    assert environments.main(["rya"]) == 1
    assert "known: evosax, optuna, ray, syne" in capsys.readouterr().out


def written(tmp_path, steps=20, searches=2, space=None):
    tmp_path.mkdir(exist_ok=True)
    case = Case("digits", space or peers.mixed(), 4, steps, 10)
    return peers.write_experiment(tmp_path, case, 0, searches)


def test_what_peers_read_is_what_was_written(tmp_path):
    experiment = peer_protocol.read(str(written(tmp_path)))
    assert (experiment.budget, experiment.rounds, experiment.outputs) == (80, 2, 10)
    task = peers.task("digits")
    train, test = (peer_protocol.split(experiment.data, name) for name in ("train", "test"))
    assert (train.y == task.train.y).all()
    np.testing.assert_array_equal(train.x, np.reshape(task.train.x, (len(train.y), -1)))
    assert test.x.dtype == np.float32
    genes = peer_protocol.draw_genes(np.random.default_rng(0), experiment.space)
    assert 1e-4 <= genes["learning_rate"] <= 1e-1
    assert genes["depth"] in (1, 2, 3)
    fixed = genes | {"depth": 2, "width": 16}
    assert peer_protocol.sizes(experiment, fixed) == [64, 16, 16, 10]
    with pytest.raises(ValueError, match="no whole rounds"):
        written(tmp_path / "other", steps=25)


def test_peers_begin_and_are_tested_as_our_networks_are(tmp_path):
    rng = np.random.default_rng(0)
    layers = peer_protocol.draw_layers(rng, [200, 300, 10])
    kernel, bias = layers[0]
    assert kernel.var() == pytest.approx(1 / 200, rel=0.02)
    assert not bias.any()
    rows = peer_protocol.batches(rng, 10, 5, 4)
    assert sorted(rows[:2].ravel()) == sorted(rows[2:].ravel()) == list(range(10))
    data = peer_protocol.Split(rng.normal(size=(50, 200)).astype(np.float32), np.arange(50) % 10)
    for activation in peer_protocol.ACTIVATIONS:
        network = peer_protocol.Network(activation, layers)
        names = {f"Dense_{i}": {"kernel": k, "bias": b} for i, (k, b) in enumerate(layers)}
        model = mlp.MLP(outputs=10, depth=1, width=300, activation=activation)
        ours = np.argmax(model.apply({"params": names}, data.x), axis=1)
        assert peer_protocol.accuracy(network, data._replace(y=ours)) == 1.0
        peer_protocol.save_network(tmp_path / "best.npz", network)
        again = peer_protocol.load_network(tmp_path / "best.npz")
        assert again.activation == activation
        np.testing.assert_array_equal(again.layers[1][0], layers[1][0])


# Alone, an optimizer is no part of what is traced.
@pytest.mark.parametrize("names", [tuple(peer_jax.RULES), ("adamw",)])
def test_optimizers_written_by_hand_are_ours(names):
    rng = np.random.default_rng(0)
    data = peer_protocol.Split(
        rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 4, 20).astype(np.int32)
    )
    rows, layers = peer_protocol.batches(rng, 20, 5, 6), peer_protocol.draw_layers(rng, [3, 5, 4])
    options = peer_jax.Options(("relu", "tanh"), names)
    train = jax.jit(peer_jax.make_functions(options)[0])
    for name in names:
        genes = {"learning_rate": 0.1, "weight_decay": 0.01}
        chosen = genes | {"activation": "tanh", "optimizer": name}
        found = train(peer_jax.begin(layers), peer_jax.traced(options, chosen), *data, rows)[0]
        same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
        jax.tree.map(same, found, ours(name, layers, data, rows))


def ours(name, layers, data, rows):
    """The layers after training by the optimizer of swarms."""
    rule = optimizers.make_rule(optimizers.KINDS[name], 0.9)
    rule = optimizers.unified(jax.tree.map(float, rule), 0.1, 0.01)
    state = rule.init(layers)

    @jax.jit
    def step(layers, state, x, y):
        def loss(layers):
            (kernel, bias), (head, last) = layers
            logits = jnp.tanh(x @ kernel + bias[None]) @ head + last[None]
            return tasks.cross_entropy(logits, y).mean()

        updates, state = rule.update(jax.grad(loss)(layers), state, layers)
        return jax.tree.map(jnp.add, layers, updates), state

    for batch in rows:
        layers, state = step(layers, state, data.x[batch], data.y[batch])
    return layers


def test_our_program_reports_every_round(tmp_path):
    file = written(tmp_path, space=peers.mlps(8) | {"optimizer": ["choice", "sgd", "adam"]})
    experiment, told = peer_protocol.read(str(file)), []
    space, task = peer_swarmjax.space_of(experiment), peer_swarmjax.task_of(experiment)
    assert space["width"].options == (8,)
    assert space["optimizer"].options == ("sgd", "adam")
    listening = SimpleNamespace(tell=lambda steps, valid: told.append((steps, valid)))
    display = peer_swarmjax.Told(listening)
    test = peer_swarmjax.search(experiment, space, task, "pbt", display, 0)
    assert sum(steps for steps, _ in told) == experiment.budget
    assert [steps for steps, _ in told[:2]] == [40, 40]
    assert [valid for _, valid in told] == sorted(valid for _, valid in told)
    assert 0.0 <= test <= 1.0


def test_a_peer_is_measured_cold_and_warm():
    found = peers.measure("vmap", Case("digits", peers.mlps(8), 2, 4, 2), 0, 240, 0.0)
    assert found.warm < found.cold <= found.seconds
    assert found.reached is not None
    assert (found.member_steps, found.scaled) == (8, False)
    assert [steps for _, steps, _ in found.curve][0] == 0


SHARED = """
import sys
from paper import peer_protocol as protocol
from paper import peer_shares as shares
experiment = protocol.read(sys.argv[1])
if len(sys.argv) == 2:
    shares.gather([(sys.executable, *sys.argv, str(i)) for i in range(2)], experiment)
    sys.exit()
share, number = shares.Share(), int(sys.argv[2])
print("noise")
for search in share.searches():
    path = protocol.Path(experiment.folder) / f"{search}-{number}.npz"
    layers = protocol.draw_layers(protocol.np.random.default_rng(0), [64, 10])
    protocol.save_network(path, protocol.Network("relu", layers))
    share.tell(10, 0.5 + 0.1 * number, str(path))
    share.tell(10, 0.1, None)
    DEATH
    while WAITING:
        share.tell(10, 0.2, None)
"""


def shared(tmp_path, death="", waiting="False", searches=2):
    file = written(tmp_path, searches=searches)
    (tmp_path / "shared.py").write_text(SHARED.replace("DEATH", death).replace("WAITING", waiting))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return run([sys.executable, str(tmp_path / "shared.py"), str(file)], 20, environment, searches)


def test_processes_that_share_a_search_are_heard_as_one(tmp_path):
    done = shared(tmp_path)
    ends = [each for each in done.lines if each.test is not None]
    assert [(each.search, each.member_steps, each.valid) for each in ends] == [
        (0, 40, 0.6), (1, 40, 0.6),
    ]  # fmt: skip
    network = peer_protocol.Network(
        "relu", peer_protocol.draw_layers(np.random.default_rng(0), [64, 10])
    )
    test = peers.task("digits").test
    data = peer_protocol.Split(np.reshape(test.x, (-1, 64)), test.y)
    assert ends[0].test == peer_protocol.accuracy(network, data)


def test_processes_that_would_go_on_are_ended_when_the_budget_is_spent(tmp_path):
    done = shared(tmp_path, waiting="True", searches=1)
    assert done.lines[-1].member_steps == 80


def test_who_ended_the_search_before_is_not_taken_to_have_ended_this_one(tmp_path):
    # Exactly the budget: the first search is over before its processes have said that they are.
    done = shared(tmp_path, death="share.tell(20, 0.3, None)", searches=3)
    ends = [(each.search, each.member_steps) for each in done.lines if each.test is not None]
    assert ends == [(0, 80), (1, 80), (2, 80)]


@pytest.mark.parametrize(
    ("groups", "processes", "expected"),
    [
        ([[1, 2, 3, 4, 5]], 2, [[1, 3, 5], [2, 4]]),
        ([[1, 2, 3], [4, 5]], 2, [[1, 2, 3], [4, 5]]),
        ([[1, 2], [3], [4]], 2, [[1, 2], [3], [4]]),
        ([[1, 2, 3, 4], [5, 6]], 4, [[1, 3], [2, 4], [5], [6]]),
    ],
)
def test_a_loop_of_fewer_programs_than_processes_gives_all_of_them_work(
    groups, processes, expected
):
    assert peer_loop.shared(groups, processes) == expected


def test_a_search_fails_if_one_of_its_processes_dies(tmp_path):
    with pytest.raises(PeerError, match="died"):
        shared(tmp_path, death="sys.exit(1) if number else None")


def test_rows_have_their_bars():
    rows = bench_peers.ROWS
    bars = {name: t.number for row in rows.values() for name, t in row.targets(False).items()}
    assert bars == {
        "small-ray": 4, "large-optuna": 10, "large-ray": 10, "per-core": 3,
        "target-spirals": 3, "target-digits-noisy": 3, "target-teacher": 3,
    }  # fmt: skip
    cases = [*peers_rows.STEPS.values(), *peers_rows.MEMBERS.values(), *peers_rows.WIDTHS.values()]
    assert all(case.steps % case.round_steps == 0 for case in cases)
