"""What of the PyTorch node needs no PyTorch; it trains in `python -m paper.bench_telemetry`."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import swarmjax as sj
from experiments import pytorch_node
from swarmjax import experiment, tasks


def test_nodes_learn_from_the_examples_of_the_vectorised_members():
    task = tasks.digits()
    train, valid = pytorch_node.digits()
    for (x, y), theirs in ((train, task.train), (valid, task.valid)):
        np.testing.assert_array_equal(x, theirs.x)
        np.testing.assert_array_equal(y, theirs.y)
        assert x.dtype == np.float32


def test_f1_is_the_mean_over_the_classes():
    # Class 0: precision 1, recall 1/2; class 1: precision 2/3, recall 1; class 2 is never found.
    found, wanted = np.array([0, 1, 1, 1, 0]), np.array([0, 0, 1, 1, 2])
    each = [2 * 1 / (2 + 2), 2 * 2 / (3 + 2), 0.0]
    assert pytorch_node.f1(found, wanted) == pytest.approx(np.mean(each))
    assert pytorch_node.f1(wanted, wanted) == 1.0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "command"),
        (["node"], "--name"),
        (["node", "--name", "a", "--width", "17"], "invalid choice: 17"),
        (["swarm", "--nodes", "many"], "invalid int value: 'many'"),
        (["dance"], "invalid choice"),
    ],
)
def test_nonsense_on_the_command_line_is_refused(monkeypatch, capsys, words, reason):
    monkeypatch.setattr(sys, "argv", ["pytorch_node", *words])
    with pytest.raises(SystemExit) as ended:
        pytorch_node.main()
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_the_swarm_is_asked_for_as_the_command_line_says(monkeypatch, tmp_path):
    words = ["swarm", "--directory", str(tmp_path / "run"), "--nodes", "3", "--budget", "900"]
    monkeypatch.setattr(sys, "argv", ["pytorch_node", *words])
    asked = []
    monkeypatch.setattr(sj, "run", lambda **settings: asked.append(settings))
    pytorch_node.main()
    (settings,) = asked
    assert (settings["members"], settings["nodes"], settings["budget"]) == (15, 3, 900)
    assert settings["directory"] == tmp_path / "run" and settings.pop("resume") is False
    # It is an experiment that can be run, at any bus.
    settings = {name: value for name, value in settings.items() if name != "display"}
    setup = experiment.check(experiment.Experiment(**settings, bus="local:x"))
    assert setup.experiment.swarm == pytorch_node.SWARM


def test_a_node_is_made_as_the_command_line_says(monkeypatch, tmp_path):
    joined = []
    made = SimpleNamespace(join=lambda name, spool: joined.append((name, str(spool))))
    monkeypatch.setattr(pytorch_node, "Trainer", lambda width: joined.append(width) or made)
    monkeypatch.setattr(sys, "argv", ["pytorch_node", "node", "--name", "a", "--width", "64"])
    pytorch_node.main()
    assert joined == [64, ("a", "a.spool")]


def test_only_nodes_need_pytorch():
    source = importlib.util.find_spec("experiments.pytorch_node").loader.get_source(
        "experiments.pytorch_node"
    )
    lines = [line for line in source.splitlines() if re.search(r"\bimport torch\b", line)]
    assert lines == ["        import torch"]
