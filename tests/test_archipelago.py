import jax
import numpy as np
import pytest
from inline_crew import InlineCrew, Reference

import swarmjax as sj
from swarmjax import archipelago, following, holding
from swarmjax.archipelago import Archipelago
from swarmjax.experiment import Experiment, check
from swarmjax.island import Settings
from swarmjax.island_protocol import IslandError, Lost
from swarmjax.mlp import Box
from swarmjax.naming import named
from swarmjax.planner import Choices
from swarmjax.rounds import begin, budgeted, decide, policy_bits
from swarmjax.types import InputError
from swarmjax.watch import Wanted

N, ROUNDS = 7, 6
TRACED = (1, 5)


@pytest.fixture(scope="module")
def setup():
    x = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    space = sj.Space(
        learning_rate=sj.log_uniform(1e-3, 1e-1),
        activation=sj.choice("relu", "tanh"),
        width=sj.structure(4, 8),
    )
    policy = sj.chain(sj.softmax(), sj.exploit(0.3), sj.breed(), sj.mutate_structure(0.5))
    given = {"task": task, "space": space, "members": N, "budget": N * 4 * ROUNDS}
    given |= {"round_steps": 4, "seed": 3, "policy": policy, "trace": TRACED}
    return check(Experiment(**given, parameters=("Dense_0/*",)))


@pytest.fixture(scope="module")
def alone(setup):
    """Plans and Frames of one process, and what it holds in the end."""
    return trained_alone(setup)


def trained_alone(setup, changed=lambda round, plan: plan):
    trainer, frame = begin(setup, Choices(even=setup.even))
    plans, frames, state, shown = [], [frame], setup.policy.init(frame), []
    for round in range(1, ROUNDS + 1):
        plan, state = decide(setup.policy, policy_bits(3, round), frames[-1], state)
        plan = jax.tree.map(np.asarray, plan)
        plan = plan._replace(fresh=np.ones(N, bool)) if round == 1 else plan
        plan = changed(round, plan)
        after = trainer.round(plan, frames[-1])
        frames.append(budgeted(after, int(after.remaining), setup.experiment))
        plans.append(plan)
        shown.append(trainer.shown)
    return plans, frames, shown, trainer.arrays()


def islands_of(setup, count, **crew):
    experiment = setup.experiment
    settings = Settings(
        setup.recipe, setup.task, N, experiment.budget, experiment.seed, "auto",
        Wanted(16, TRACED, ("Dense_0/*",)), 1.0, setup.even,
    )  # fmt: skip
    crew = InlineCrew(settings, **crew)
    fleet = Archipelago(crew, settings, count, Choices(even=setup.even))
    # Whom members go to depends on what is known, not on how busy this machine is.
    fleet._measure = lambda plan, frame: None
    return fleet, crew


def sail(fleet, setup, plans, first, keep=(), between=lambda round: None):
    """Frames of all rounds; after those in `keep` there is a checkpoint."""
    frames, kept = [first], []
    fleet.convoy.recall = lambda: kept[-1] if kept else None
    for round, plan in enumerate(plans, 1):
        after = fleet.round(plan, frames[-1])
        frames.append(budgeted(after, int(after.remaining), setup.experiment))
        if round in keep:
            kept.append(fleet.arrays() | named(frames[-1], "frame"))
            fleet.convoy.saved(round)
        between(round)
    return frames


def assert_same(fleet, alone, frames):
    _, wanted, _, arrays = alone
    for one, other in zip(wanted, frames, strict=True):
        for name in set(one._fields) - {"seconds", "space"}:
            pairs = zip(*(jax.tree.leaves(getattr(f, name)) for f in (one, other)), strict=True)
            for a, b in pairs:
                np.testing.assert_array_equal(a, b, err_msg=f"{name} of round {one.round}")
    mine = fleet.arrays()
    np.testing.assert_array_equal(holding.digests(mine), holding.digests(arrays))
    for name in (n for n in arrays if n.startswith("detector")):
        np.testing.assert_array_equal(mine[name], arrays[name], err_msg=name)


def assert_rows_are_the_same(rows, wanted):
    for kind in ("windows", "steps"):
        for name, values in getattr(wanted, kind).items():
            if not name.endswith("_ns"):
                np.testing.assert_array_equal(getattr(rows, kind)[name], values, err_msg=name)
    order = lambda row: (row["member"], row["parameter"])  # noqa: E731
    pairs = zip(sorted(rows.parameters, key=order), sorted(wanted.parameters, key=order),
                strict=True)  # fmt: skip
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine["values"], theirs["values"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_swarm_over_islands_is_that_of_one_process_to_the_last_bit(setup, alone, count):
    plans, (first, *_), shown, _ = alone
    fleet, _ = islands_of(setup, count)
    frames = sail(fleet, setup, plans, first)
    assert_same(fleet, alone, frames)
    assert_rows_are_the_same(fleet.shown, shown[-1])
    assert set(fleet.convoy.owner) == set(range(count))
    arrived = sum(harvest.arrived[0] for harvest in fleet.harvests.values())
    assert (arrived > 0) == (count > 1) or not (plans[-1].parent != np.arange(N)).any()


def test_who_comes_and_goes_changes_nothing(setup, alone):
    plans, (first, *_), *_ = alone
    fleet, crew = islands_of(setup, 2)
    told = []
    fleet.tell = told.append

    def between(round):
        if round == 2:
            assert fleet.convoy.join() == 2
        if round == 4:
            fleet.convoy.leave(0)

    frames = sail(fleet, setup, plans, first, between=between)
    assert_same(fleet, alone, frames)
    assert set(fleet.convoy.owner) == {1, 2}
    assert 0 in crew.dismissed
    assert any("members go to other islands" in line for line in told)
    with pytest.raises(InputError, match="cannot leave"):
        fleet.convoy.leave(0)


def dies(*when):
    """A fate: an island dies at its n-th call of a method in a life, for each of `when`."""
    seen = {}

    def fate(island, method, life):
        key = island, method, life
        seen[key] = seen.get(key, 0) + 1
        return (island, method, life, seen[key]) in when

    return fate


def test_a_host_that_joins_gets_an_island_as_long_as_there_are_members(setup, alone):
    plans, wanted, _, _ = alone
    fleet, crew = islands_of(setup, 2)
    notes = []
    fleet.tell = notes.append

    def join(round):
        crew.joining = {2: 1, 4: 100}.get(round, 0)

    frames = sail(fleet, setup, plans, wanted[0], between=join)
    assert_same(fleet, alone, frames)
    told = [note for note in notes if "a host has joined" in note]
    assert told[0] == "a host has joined: island 2 is begun there" and len(told) == N - 2
    assert notes.index("island 2, on a host that has joined, is ready") > notes.index(told[0])
    assert fleet.convoy.islands == list(range(N)) and fleet.convoy.vacant == 0


def test_an_invited_island_that_dies_before_it_is_ready_is_forgotten(setup, alone):
    plans, wanted, _, _ = alone
    fleet, crew = islands_of(setup, 2, fate=lambda island, method, life: island == 2)

    def join(round):
        crew.joining = int(round == 2)

    frames = sail(fleet, setup, plans, wanted[0], between=join)
    assert_same(fleet, alone, frames)
    assert fleet.convoy.islands == [0, 1] and 2 in crew.dismissed


@pytest.mark.parametrize("keep", [(), (2,), (1, 2)])
def test_where_no_host_is_left_between_rounds_the_others_take_the_members(setup, alone, keep):
    """Island 1 dies as its networks are asked for, and finds no host any more."""
    plans, wanted, _, _ = alone
    struck = []

    def fate(island, method, life):
        return bool(struck) and island == 1

    fleet, crew = islands_of(setup, 3, fate=fate)
    notes = []
    fleet.tell = notes.append

    def strike(round):
        if round == 2:
            struck.append(round)
            crew.nowhere.add(1)
            assert {slot for slot, _ in fleet.networks(range(N), plans[1].genome)} == set(range(N))

    frames = sail(fleet, setup, plans, wanted[0], keep=keep, between=strike)
    assert_same(fleet, alone, frames)
    assert 1 not in fleet.convoy.owner and fleet.convoy.islands == [0, 2]
    told = "no host can run island 1: others take its members"
    assert sum(told in note for note in notes) == 1


@pytest.mark.parametrize("keep", [(), (2, 4)])
@pytest.mark.parametrize(
    ("when", "lives"),
    [
        # While it trains, while it sends, and once more while it comes back.
        ([(1, "follow", 1, 4)], 2),
        ([(1, "pack", 1, 1)], 2),
        ([(1, "follow", 1, 4), (1, "hold", 2, 1)], 3),
    ],
)
def test_an_island_that_dies_comes_back_and_changes_nothing(setup, alone, when, lives, keep):
    plans, (first, *_), *_ = alone
    fleet, crew = islands_of(setup, 2, fate=dies(*when))
    told = []
    fleet.tell = told.append
    frames = sail(fleet, setup, plans, first, keep=keep)
    assert_same(fleet, alone, frames)
    assert fleet.convoy.begun.tolist() == [1, lives] and crew.lives == {0: 1, 1: lives}
    assert any("island 1 is gone (killed); it is made anew" in line for line in told)
    # Only its own work is done once more.
    rounds = [who for who, method in crew.calls if method == "follow"]
    assert rounds.count(1) > ROUNDS


def test_both_may_die_at_once(setup, alone):
    plans, (first, *_), *_ = alone
    fleet, crew = islands_of(setup, 2, fate=dies((0, "follow", 1, 4), (1, "follow", 1, 4)))
    frames = sail(fleet, setup, plans, first, keep=(2,))
    assert_same(fleet, alone, frames)
    assert crew.lives == {0: 2, 1: 2}


def test_lost_networks_take_all_back_to_the_checkpoint(setup, alone):
    plans, (first, *_), *_ = alone
    fleet, crew = islands_of(setup, 2)
    told, pack, lost = [], crew.send, []
    fleet.tell = told.append

    def send(island, round, parts):
        if round == 4 and not lost:
            lost.append(round)
            return [Reference(Lost(False, "object lost")) for _ in parts]
        return pack(island, round, parts)

    crew.send = send
    frames = sail(fleet, setup, plans, first, keep=(3,))
    assert_same(fleet, alone, frames)
    assert lost
    assert any("networks on their way are lost; all islands go back" in line for line in told)


def test_where_no_host_is_left_the_others_take_the_members(setup, alone):
    plans, (first, *_), *_ = alone
    count = {"calls": 0}

    def fate(island, called, life):
        count["calls"] += (island, called) == (1, "follow")
        if island == 1 and count["calls"] == 3:
            crew.nowhere.add(1)
            return True
        return False

    fleet, crew = islands_of(setup, 3, fate=fate)
    told = []
    fleet.tell = told.append
    frames = sail(fleet, setup, plans, first)
    assert_same(fleet, alone, frames)
    assert set(fleet.convoy.owner) == {0, 2}
    assert any("no host can run island 1" in line for line in told)


def test_who_always_fails_ends_the_run(setup, alone):
    plans, (first, *_), *_ = alone
    fleet, _ = islands_of(
        setup, 2, fate=lambda island, called, life: (island, called) == (1, "follow")
    )
    with pytest.raises(IslandError, match="island 1 fails again and again: killed"):
        fleet.round(plans[0], first)


def test_without_a_checkpoint_that_reaches_back_nothing_is_made_up(setup, alone):
    plans, (first, *_), *_ = alone
    seen = []
    fleet, _ = islands_of(
        setup, 2,
        fate=lambda k, called, life: (k, called) == (1, "follow") and life == 1
        and not seen.append(0) and len(seen) == 4,
    )  # fmt: skip

    def forget(round):
        # What a run that lost its checkpoints would do.
        fleet.convoy.saved(round)

    with pytest.raises(IslandError, match="no checkpoint of round 3 is left"):
        sail(fleet, setup, plans, first, between=forget)


def test_a_run_goes_on_from_what_another_trainer_kept(setup, alone):
    plans, frames, _, _ = alone
    other, first = begin(setup, Choices())
    for plan, frame in zip(plans[:3], frames[:3], strict=True):
        other.round(plan, frame)
    arrays = other.arrays() | named(frames[3], "frame")
    fleet, _ = islands_of(setup, 2)
    fleet.take_up(plans[:3], frames[3].genome, arrays)
    mine = list(frames[:4])
    for plan in plans[3:]:
        after = fleet.round(plan, mine[-1])
        mine.append(budgeted(after, int(after.remaining), setup.experiment))
    assert_same(fleet, alone, mine)


def test_networks_are_taken_out_wherever_they_are(setup, alone):
    plans, (first, *_), *_ = alone
    trainer, _ = begin(setup, Choices())
    trainer.round(plans[0], first)
    fleet, _ = islands_of(setup, 3)
    frame = fleet.round(plans[0], first)
    for slot, network in fleet.networks(range(N), frame.genome):
        wanted = trainer.network(slot, frame.genome)
        assert network.container == wanted.container
        jax.tree.map(np.testing.assert_array_equal, network.member, wanted.member)
    boxes = fleet.boxes({k: np.asarray(v)[0] for k, v in frame.genome.items()})
    assert boxes[0] == fleet.network(0, frame.genome).container


def test_speed_is_measured_from_the_second_round_of_a_process_on(setup, alone):
    plans, (first, *_), *_ = alone
    fleet, _ = islands_of(setup, 2)
    del fleet._measure
    frames = [first]
    known = []
    for plan in plans[:3]:
        frames.append(fleet.round(plan, frames[-1]))
        known.append(fleet._pace.copy())
    assert np.isnan(known[0]).all()
    for pace in known[1:]:
        assert (pace > 0).any() and np.nanmax(pace) < 1


def test_a_slow_island_gets_fewer_members(setup, alone, monkeypatch):
    plans, (first, *_), *_ = alone
    monkeypatch.setattr(archipelago.dealing, "MESSAGE", 0.0)
    fleet, crew = islands_of(setup, 2)
    frames = sail(fleet, setup, plans[:3], first)
    # As if the second island took nine times as long for everything, and much longer than moving.
    fleet._pace[:] = [1e-3, 9e-3]
    fleet.round(plans[3], frames[-1])
    counts = np.bincount(fleet.convoy.owner)
    assert counts[0] > counts[1] >= 1


@pytest.fixture
def followed(setup, monkeypatch):
    """One process whose networks have one small architecture from the third round on."""
    monkeypatch.setattr(following, "MARGIN", 0.0)
    monkeypatch.setattr(following, "LEAST", 0.0)

    def changed(round, plan):
        small = {"width": np.zeros(N, np.int32)}
        return plan._replace(genome=plan.genome | small) if round > 2 else plan

    return trained_alone(setup, changed)


@pytest.mark.parametrize("killed", [None, 4, 5])
def test_islands_follow_a_swarm_of_few_architectures_alike(setup, followed, killed):
    plans, (first, *_), *_ = followed
    calls = []

    def fate(island, method, life):
        calls.append((island, method, life))
        return calls.count((0, "follow", 1)) == killed and (island, method, life) == (
            0, "follow", 1,
        )  # fmt: skip

    fleet, _ = islands_of(setup, 2, fate=fate)
    assert_same(fleet, followed, sail(fleet, setup, plans, first, keep=(2, 3)))
    assert len(fleet.convoy.homes.known) == 2 and fleet.convoy.repeated == (
        [] if killed is None else [killed - 4]
    )
    assert {n.container for _, n in fleet.networks(range(N), plans[-1].genome)} == {Box(2, 4)}


def test_a_followed_swarm_is_taken_up(setup, followed):
    plans, frames, _, _ = followed
    for since in (2, 4):
        other, _ = begin(setup, Choices())
        for plan, frame in zip(plans[:since], frames[:since], strict=True):
            other.round(plan, frame)
        arrays = other.arrays() | named(frames[since], "frame")
        fleet, _ = islands_of(setup, 2)
        fleet.take_up(plans[:since], frames[since].genome, arrays)
        mine = list(frames[: since + 1])
        for plan in plans[since:]:
            after = fleet.round(plan, mine[-1])
            mine.append(budgeted(after, int(after.remaining), setup.experiment))
        assert_same(fleet, followed, mine)
