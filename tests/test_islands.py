import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest

import swarmjax as sj
from swarmjax import checkpoints, crew, island_process, proof
from swarmjax.experiment import Experiment
from swarmjax.progress import Silent
from swarmjax.stored import open_run
from swarmjax.types import InputError

# The package has a function of that name.
islands = importlib.import_module("swarmjax.islands")

# Before Ray is imported: its servers listen on the loopback address alone.
os.environ.update(islands.LOCAL)
try:
    import ray
    from ray import cluster_utils
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("Ray is not installed: pip install 'swarmjax[ray]'", allow_module_level=True)

ROOT = Path(__file__).parents[1]
N, ROUNDS, STEPS = 6, 6, 10
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    """Three hosts of Ray on this machine, with a core each."""
    with warnings.catch_warnings():
        # Ray forks beside JAX's threads, and leaves files open.
        warnings.simplefilter("ignore")
        made = cluster_utils.Cluster(
            initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
        )
        for _ in range(2):
            made.add_node(**NODE)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture(autouse=True)
def quiet():
    # Sockets and files of Ray's own are collected whenever that happens.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # A host that joins is forked beside JAX's threads, and runs another program at once.
        warnings.filterwarnings("ignore", "os.fork")
        yield


def setting(**changes):
    x = np.random.default_rng(0).normal(size=(120, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 8))
    policy = sj.chain(sj.softmax(), sj.exploit(0.4))
    given = {"task": task, "space": space, "members": N, "budget": N * STEPS * ROUNDS}
    return given | {"round_steps": STEPS, "seed": 3, "policy": policy} | changes


class Caught:
    """Islands, and the trainer that was made of them."""

    def __init__(self, address, count=2, **options):
        self._islands, self.made = sj.islands(count, address, **options), None

    def make(self, setup, choices):
        self.made = self._islands.make(setup, choices)
        return self.made


class Hook(Silent):
    """Calls something when rounds are over, and keeps what is told."""

    def __init__(self, calls):
        self._calls, self.notes = dict(calls), []

    def note(self, text):
        self.notes.append(text)

    def show(self, status):
        self._calls.pop(status.round, lambda: None)()


@contextlib.contextmanager
def sailed(address, directory, when=0, call=lambda trainer: None, count=2, **changes):
    """A run on islands; `call` is called with its trainer after a round, and before the next."""
    options = {"patience": 60.0} | changes.pop("islands", {})
    caught = Caught(address, count, **options)
    hook = Hook({round: lambda: call(caught.made) for round in np.atleast_1d(when)})
    given = setting(directory=directory, **changes)
    result = sj.run(**given, trainer=caught, display=hook)
    try:
        yield result, hook.notes
    finally:
        result.trainer.close()


def assert_as_in_one_process(directory, **changes):
    """Numbers and weights of every member are those of one process that follows the same Plans."""
    experiment = Experiment(**setting(directory=directory, **changes))
    found = proof.prove(directory, experiment, round=None, member=None, nearest=False)
    assert found.faults == () and found.hashed


def islands_of(directory):
    with contextlib.closing(open_run(directory)) as reader:
        return reader.summaries("islands").to_pandas(), reader.events()


def test_two_islands_on_two_hosts_are_as_one_process(cluster, tmp_path):
    directory = tmp_path / "run"
    with sailed(cluster.address, directory) as (result, notes):
        assert notes[0] == f"2 islands: Ray at {cluster.address}"
        best = sj.take_out(result.trainer, result.frame, 1)
        assert best.member == 1
    assert_as_in_one_process(directory)
    rows, events = islands_of(directory)
    assert rows["round"].tolist() == sorted([*range(1, ROUNDS + 1)] * 2)
    assert rows.groupby("round")["members"].sum().eq(N).all()
    assert rows["steps"].sum() == N * STEPS * ROUNDS
    assert (rows["begun"] == 1).all() and rows["pid"].nunique() == 2
    # Once heard, an island's clock is known to a part of a second.
    known = rows["clock_bound"] >= 0
    assert known.any() and (rows["clock_bound"][known] < 10**9).all()
    assert [event.kind for event in events].count("island") >= 1
    with contextlib.closing(open_run(directory)) as reader:
        usage = reader.summaries("usage").to_pandas()
        assert (usage["memory"] > rows.groupby("round")["memory"].sum().to_numpy()).all()
        assert reader.windows()["steps"].to_numpy().sum() == N * STEPS * ROUNDS


def test_an_island_that_is_killed_comes_back_from_the_checkpoint(cluster, tmp_path):
    directory = tmp_path / "run"

    def kill(trainer):
        os.kill(trainer.harvests[1].pid, signal.SIGKILL)

    with sailed(cluster.address, directory, 3, kill, checkpoint_seconds=0) as (result, notes):
        assert result.trainer.convoy.begun.tolist() == [1, 2]
        assert any("island 1 is gone" in note and "made anew" in note for note in notes)
    assert_as_in_one_process(directory, checkpoint_seconds=0)
    rows, events = islands_of(directory)
    assert rows["steps"].sum() == N * STEPS * ROUNDS
    assert any(event.kind == "island" and "is gone" in event.text for event in events)


def test_silence_is_not_a_crash(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "QUIET", 3.0)
    directory = tmp_path / "run"

    def cut_off(trainer):
        pid = trainer.harvests[1].pid
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(8.0, os.kill, (pid, signal.SIGCONT)).start()

    with sailed(cluster.address, directory, 2, cut_off) as (result, notes):
        assert result.trainer.convoy.begun.tolist() == [1, 1]
        assert any("gives no sign of life, but has not crashed" in note for note in notes)
        assert "island 1 answers again" in notes
    assert_as_in_one_process(directory)


def test_who_is_silent_too_long_is_given_up(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "QUIET", 2.0)
    directory = tmp_path / "run"

    def stop(trainer):
        # Whoever has not begun yet has longer.
        trainer._crew._patience = 6.0
        os.kill(trainer.harvests[1].pid, signal.SIGSTOP)
        threading.Timer(9.0, setattr, (trainer._crew, "_patience", 300.0)).start()

    with sailed(cluster.address, directory, 2, stop) as (result, notes):
        assert result.trainer.convoy.begun[1] >= 2
        assert any("no sign of life for" in note and "made anew" in note for note in notes)
    assert_as_in_one_process(directory)


def test_islands_join_and_leave_while_a_run_goes_on(cluster, tmp_path):
    directory = tmp_path / "run"

    node = cluster.list_all_nodes()[-1]
    cluster.remove_node(node)

    def change(trainer):
        convoy = trainer.convoy
        if convoy.open.tolist() == [True, True]:
            cluster.add_node(**NODE)
        else:
            ray.wait(list(convoy._coming), timeout=120)
            convoy.leave(0)

    with sailed(cluster.address, directory, [2, 3], change) as (result, notes):
        assert set(result.trainer.convoy.owner) == {1, 2}
        told = [note for note in notes if "a host" in note]
        assert told == [
            "a host has joined: island 2 is begun there",
            "island 2, on a host that has joined, is ready",
        ]
        assert any("members go to other islands" in note for note in notes)
        assert not any("no host can run" in note for note in notes)
    assert_as_in_one_process(directory)
    rows, _ = islands_of(directory)
    assert set(rows["island"][rows["round"] > 4]) == {1, 2}


def runs(node, pid):
    """Whether a process runs on a host, which is a process of Ray."""
    host = node.all_processes["raylet"][0].process.pid
    return host in [parent.pid for parent in psutil.Process(pid).parents()]


def test_who_finds_no_host_any_more_gives_its_members_to_the_others(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "QUIET", 2.0)
    directory = tmp_path / "run"

    gone = []

    def leave(trainer):
        # Not the first host, on which the controller is.
        pairs = [(k, n) for k in range(3) for n in cluster.list_all_nodes()[1:]]
        island, node = next((k, n) for k, n in pairs if runs(n, trainer.harvests[k].pid))
        gone.append(island)
        cluster.remove_node(node, allow_graceful=False)

    try:
        with sailed(cluster.address, directory, 2, leave, count=3, checkpoint_seconds=0) as (
            result,
            notes,
        ):
            assert set(result.trainer.convoy.owner) == {0, 1, 2} - set(gone)
            told = f"no host can run island {gone[0]}: others take its members"
            assert any(told in note for note in notes)
        assert_as_in_one_process(directory, checkpoint_seconds=0)
    finally:
        cluster.add_node(**NODE)


_KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from test_islands import setting
import swarmjax as sj

sj.run(**setting(directory=sys.argv[3], checkpoint_seconds=0), trainer=sj.islands(2, sys.argv[2]))
"""


def test_a_controller_that_is_killed_resumes(cluster, tmp_path):
    directory = tmp_path / "run"
    command = [sys.executable, "-c", _KILLED, str(ROOT / "tests"), cluster.address, str(directory)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    end = time.monotonic() + 300
    while not checkpoints.rounds(directory) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    _, error = process.communicate()
    assert checkpoints.rounds(directory), error.decode()
    with sailed(cluster.address, directory, checkpoint_seconds=0, resume=True) as (result, notes):
        assert int(result.frame.round) == ROUNDS
        assert any("resumed from the checkpoint" in note for note in notes)
    assert_as_in_one_process(directory, checkpoint_seconds=0)


def test_more_islands_than_there_is_room_for_are_refused(cluster, tmp_path):
    with pytest.raises(InputError, match="4 islands of 0 CPUs .* do not fit: Ray has 3 CPUs"):
        sj.run(**setting(directory=tmp_path / "run"), trainer=sj.islands(4, cluster.address))
    assert not (tmp_path / "run").exists()


_ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
from test_islands import setting
import psutil
import swarmjax as sj

result = sj.run(**setting(directory=sys.argv[2]), trainer=sj.islands(2))
mine = [psutil.Process(), *psutil.Process().children(recursive=True)]
heard = {c.laddr.ip for p in mine for c in p.net_connections("inet") if c.status == "LISTEN"}
result.trainer.close()
print(sorted(heard), int(result.frame.round))
gone, left = psutil.wait_procs(mine[1:], timeout=60)
print("left", [p.name() for p in left])
"""


def test_without_an_address_ray_is_started_for_this_machine_alone(tmp_path):
    command = [sys.executable, "-c", _ALONE, str(ROOT / "tests"), str(tmp_path / "run")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    heard, left = done.stdout.splitlines()[-2:]
    assert set(eval(heard[: heard.index("]") + 1])) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert heard.endswith(str(ROUNDS))
    assert left == "left []"
    _, events = islands_of(tmp_path / "run")
    told = [event.text for event in events if event.kind == "island"]
    assert told[0].startswith("2 islands: started a Ray of its own, for this machine only, at 127.")


_DEFAULT = """
import sys
sys.path.insert(0, sys.argv[1])
import swarmjax as sj
import swarmjax.cli

x = [[float(i), 1.0] for i in range(40)]
task = sj.tasks.arrays(x, [i % 2 for i in range(40)], batch=8)
space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4))
sj.run(task=task, space=space, members=2, budget=8, round_steps=2, directory=sys.argv[2])
print([name for name in sys.modules if name.partition(".")[0] == "ray"])
"""


def test_without_islands_ray_is_never_imported(tmp_path):
    command = [sys.executable, "-c", _DEFAULT, str(ROOT / "tests"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_that_ray_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(islands.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'swarmjax\[ray\]'"):
        sj.run(**setting(directory=tmp_path / "run"), trainer=sj.islands(2))


def test_a_cluster_that_is_not_there_is_said(tmp_path, monkeypatch):
    def refuse(**options):
        raise ConnectionError(f"nobody at {options['address']}\nsecond line")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match="no Ray at 127.0.0.1:1: nobody at 127.0.0.1:1; see"):
        sj.run(**setting(directory=tmp_path / "run"), trainer=sj.islands(2, "127.0.0.1:1"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"count": 0}, "islands must be a whole number from 1"),
        ({"count": True}, "islands must be a whole number from 1"),
        ({"count": 2, "address": " "}, "address must be"),
        ({"count": 2, "cpus": 0}, "cpus must be"),
        ({"count": 2, "gpus": -1.0}, "gpus must be"),
        ({"count": 2, "patience": "long"}, "patience must be"),
    ],
)
def test_what_cannot_be_is_refused(given, fault):
    with pytest.raises(InputError, match=fault):
        sj.islands(**given)


def test_nodes_and_islands_do_not_go_together(tmp_path):
    with pytest.raises(InputError, match="islands and nodes do not go together"):
        given = setting(directory=tmp_path / "run", nodes=1, bus="local:islands")
        sj.run(**given, trainer=sj.islands(2))


def test_every_island_needs_a_member(tmp_path):
    with pytest.raises(InputError, match="7 islands need a member each, and there are 6"):
        sj.run(**setting(directory=tmp_path / "run"), trainer=sj.islands(7))


def test_islands_share_what_hosts_have():
    assert islands.largest([4, 4], 2) == 4
    assert islands.largest([4, 4], 3) == 2
    # An island takes no part of one host and another part of a second one.
    assert islands.largest([3, 5], 2) == 3
    assert islands.largest([1, 1], 3) == 0
    assert islands.largest([], 1) == 0
    hosts = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}]
    assert islands.places(hosts, {"CPU": 2, "GPU": 0}) == 3
    assert islands.places(hosts, {"CPU": 1, "GPU": 0.5}) == 2


def test_only_hosts_that_have_joined_are_newcomers():
    hosts = {"a": {"CPU": 8.0}, "b": {"CPU": 8.0}, "c": {"memory": 1e9}, "d": {"CPU": 4.0}}
    each = {"CPU": 2, "GPU": 0}
    assert crew.vacancies(hosts, {"a", "b", "c", "d"}, each, 2) == 0
    # One without a core, and one with room for two.
    assert crew.vacancies(hosts, {"a", "b", "d"}, each, 2) == 0
    assert crew.vacancies(hosts, {"a", "b", "c"}, each, 2) == 2
    # Those who lost their hosts come first.
    assert crew.vacancies(hosts, {"a", "b", "c"}, each, 9) == 1
    assert crew.vacancies(hosts, {"a", "b", "c"}, each, 11) == 0


def test_the_pulse_knows_when_it_heard_whom():
    pulse = island_process.Pulse()
    received, answered = pulse.beat(1, 2)
    assert received <= answered
    assert set(pulse.ages()) == {(1, 2)} and 0 <= pulse.ages()[1, 2] < 60


def test_all_processes_end_with_the_tests():
    # The fixture of the module ends later; nobody else may have left an island behind.
    names = [process.name() for process in psutil.Process().children(recursive=True)]
    assert not [name for name in names if name.startswith("ray::Body")]
    assert jax.device_count() == 8
