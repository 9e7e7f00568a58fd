import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import lanes, placement, trial
from swarmjax.placement import Layout
from swarmjax.planner import Choices
from swarmjax.rescue import ProgramError, attempted
from swarmjax.types import InputError

MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes.\nmore"


def trainer(most):
    """Trains lanes of at most so many members."""
    seen = []

    def attempt(layout, lane):
        assert lane.shape == (layout.groups, layout.chunk * layout.chunks)
        if lane.size > most:
            raise jax.errors.JaxRuntimeError(MEMORY)
        seen.extend(lane[lane >= 0].tolist())
        return lane.size

    return attempt, seen


@pytest.mark.parametrize(("most", "chunk", "chunks"), [(64, 16, 4), (32, 16, 2), (8, 8, 1)])
def test_shorter_lanes_where_memory_runs_out(most, chunk, chunks):
    layout = Layout(placement.make_mesh(devices=jax.devices()[:1]), 16, 4)
    lane = np.full((1, 64), -1)
    lane[0, :50] = np.arange(50)
    attempt, seen = trainer(most)
    made = list(attempted(attempt, layout, lane))
    assert sorted(seen) == list(range(50)), "everyone once"
    assert {(layout.chunk, layout.chunks) for layout, *_ in made} == {(chunk, chunks)}
    assert all(size <= most for *_, size in made)


def test_chunks_that_results_depend_on_are_not_made():
    layout = Layout(placement.make_mesh(devices=jax.devices()[:1]), 16, 1)
    attempt, _ = trainer(7)
    with pytest.raises(InputError, match="out of memory on the devices.*lower members"):
        list(attempted(attempt, layout, np.arange(16)[None]))


def test_another_failure_is_the_programs():
    def attempt(layout, lane):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such instruction\nmore")

    layout = Layout(placement.make_mesh(devices=jax.devices()[:1]), 8, 1)
    with pytest.raises(ProgramError, match="INTERNAL: no such instruction$"):
        list(attempted(attempt, layout, np.arange(8)[None]))


@pytest.fixture
def experiment(tmp_path):
    x = np.random.default_rng(0).normal(size=(120, 4))
    # Networks of their own program each.
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), depth=sj.structure(1, 2))
    return sj.Experiment(
        task=sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16), space=space,
        members=6, budget=240, round_steps=10, policy="pbt", directory=tmp_path / "run",
    )  # fmt: skip


def failing(monkeypatch, wrong):
    """Lets programs of some containers fail, and gives every architecture its own."""
    train = lanes.train_lane

    def train_lane(recipe, task, layout, container, *rest):
        if wrong(container):
            raise jax.errors.JaxRuntimeError("INTERNAL: cannot be lowered")
        return train(recipe, task, layout, container, *rest)

    train_lane.lower = train.lower
    monkeypatch.setattr(lanes, "train_lane", train_lane)
    costs = Choices().costs._replace(compile_seconds=1e-9, flops_per_second=1e3, chunk=1)
    monkeypatch.setattr(trial, "machine_costs", lambda *_: costs)
    monkeypatch.setattr(trial, "choose_chunk", lambda *_: (8, "made up"))
    monkeypatch.setattr(trial, "choose_devices", lambda *_: (1, "made up"))


def test_an_architecture_that_does_not_compile_is_retired(experiment, monkeypatch):
    failing(monkeypatch, lambda container: container.depth == 1)
    result = sj.run(experiment)
    reader = sj.open_run(result.directory)
    rows = reader.frames().to_pandas()
    assert (rows.alive == (rows.depth == 2)).all() and rows.alive.any()
    assert rows[rows["round"] == rows["round"].max()].alive.any()
    told = [event.text for event in reader.events() if "retired" in event.text]
    assert len(told) == 1 and "cannot be lowered" in told[0]
    assert Choices.from_json(reader.engine()).retired
    assert reader.status().state == "finished"
    # What the record says is retired stays so, and nothing else is needed.
    monkeypatch.undo()
    trainer, frame = sj.replay(experiment)
    assert np.array_equal(frame.alive, result.frame.alive)
    np.testing.assert_array_equal(frame.metrics["valid_loss"], result.frame.metrics["valid_loss"])


def test_where_no_program_trains_the_run_says_so(experiment, monkeypatch):
    failing(monkeypatch, lambda container: True)
    with pytest.raises(ProgramError, match="no program trains: INTERNAL: cannot be lowered"):
        sj.run(experiment)
