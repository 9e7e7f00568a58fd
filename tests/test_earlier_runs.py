"""Runs that earlier versions left behind: read, rebuilt and resumed."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import swarmjax as sj
from swarmjax import anomaly, checkpoints

FIXTURES = Path(__file__).parent / "fixtures"
SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    optimizer=sj.choice("momentum", "adam"),
    width=sj.structure(4, 8),
)


@pytest.fixture(params=["format-1"])
def experiment(request, tmp_path):
    """It was stopped after four rounds and has a checkpoint of the first."""
    shutil.copytree(FIXTURES / request.param, tmp_path / "run")
    x = np.random.default_rng(0).normal(size=(200, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    return sj.Experiment(
        task=task, space=SPACE, members=6, budget=400, round_steps=10, seed=3,
        directory=tmp_path / "run",
    )  # fmt: skip


def test_it_is_read(experiment):
    with contextlib.closing(sj.open_run(experiment.directory)) as reader:
        assert reader.rounds() == [1, 2, 3, 4] and reader.frames().num_rows == 24
        assert [round for round, _ in reader.plans()] == [1, 2, 3, 4]
        assert reader.status().state == "stopped" and len(reader.directives()) == 6
        assert reader.best()[1]["scores"]["valid_accuracy"] > 0.9
        assert reader.digests(4).shape == (6, 16)
        assert reader.events() and all(e.value is e.threshold is None for e in reader.events())
    held = checkpoints.load(experiment.directory, 1)
    assert held.round == 1 and held.arrays["frame.round"] == 1


def test_it_is_rebuilt_from_its_checkpoint_and_resumed(experiment, monkeypatch):
    """On another machine the last bits may differ."""
    # Who trains is then an outlier, whatever its loss.
    monkeypatch.setitem(anomaly.THRESHOLDS, "outlier", -1e9)
    _, frame = sj.replay(experiment, nearest=True)
    with contextlib.closing(sj.open_run(experiment.directory)) as reader:
        stored, told = reader.frames(4), reader.events()
    assert frame.birth.tolist() == stored["birth"].to_pylist()
    np.testing.assert_allclose(frame.loss, stored["train_loss"].to_numpy(), rtol=1e-3)
    result = sj.run(experiment, resume=True)
    assert result.frame.remaining == 0 and result.best.scores["test_accuracy"] > 0.9
    with contextlib.closing(sj.open_run(experiment.directory)) as reader:
        events = reader.events()
    assert [e for e in events if e.id <= told[0].id] == told[:1]
    alarms = [event for event in events if event.kind == "outlier"]
    assert alarms and all(e.value > e.threshold == -1e9 for e in alarms)
