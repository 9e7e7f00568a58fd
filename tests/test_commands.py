import re

import pytest
import tyro

import swarmjax as sj
from swarmjax.commands import Dashboard, Export, Options, Run, Runs
from swarmjax.experiment import builtin
from swarmjax.families import FAMILIES
from swarmjax.presets import PRESETS
from swarmjax.tasks import TASKS


def help_of(command, capsys):
    """The help in one line, without its frames."""
    with pytest.raises(SystemExit) as ended:
        tyro.cli(command, args=["--help"])
    assert ended.value.code == 0
    return " ".join(re.sub("[─│╭╮╰╯]", " ", capsys.readouterr().out).split())


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_help_tells_the_defaults_that_a_run_has(wide, capsys):
    text = help_of(Run, capsys)
    usual, cnn, words = builtin("digits"), builtin("digits", "cnn"), builtin("text")
    for name in ("members", "budget"):
        a, b, c = (f"{getattr(experiment, name):,}" for experiment in (usual, cnn, words))
        assert f"(default: {a}; cnn {b}, transformer {c})" in text
    assert f"(default: {usual.policy})" in text and f"(default: {usual.seed})" in text
    assert "(default: a new one below runs)" in text and "(default: the policy's own)" in text
    assert "None" not in text


def test_help_names_all_that_can_be_chosen(wide, capsys):
    text = help_of(Run, capsys)
    for name in (*TASKS, *FAMILIES, *PRESETS):
        assert re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize("command", [Runs, Export, Dashboard])
def test_every_word_of_the_other_commands_is_explained(command, wide, capsys):
    text = help_of(command, capsys)
    assert command.__doc__.split(".")[0] in text and "None" not in text
    assert not re.search(r"(RUN|OUT|DIR|INT) *(\(|$)", text)


def test_what_is_not_said_is_left_to_the_experiment():
    options = tyro.cli(Options, args=[])
    assert {getattr(options, name) for name in vars(options)} == {None, False}
    given = tyro.cli(Options, args=["--members", "3", "--directory", "a/b", "--goal", "loss=-1"])
    assert (given.members, str(given.directory), given.goal) == (3, "a/b", "loss=-1")
    assert isinstance(given.members, int) and set(vars(given)) - {
        "dashboard", "resume", "islands", "address",
    } <= set(vars(sj.Experiment(task="digits")))  # fmt: skip
