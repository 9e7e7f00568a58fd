import importlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import swarmjax as sj
from swarmjax import checkpoints, store
from swarmjax.cli import command_line, load, main
from swarmjax.dials import Dial

SMALL = """
import numpy as np
import swarmjax as sj

x = np.random.default_rng(0).normal(size=(120, 3))
experiment = sj.Experiment(
    task=sj.tasks.arrays(x, (x[:, 0] > 0).astype(int), batch=16{task}),
    space=sj.Space(learning_rate=sj.log_uniform({low}, {high}), width=sj.structure(4)),
    members=4, budget={budget}, round_steps=10, {more}
)
"""


def write(tmp_path, **changes):
    given = {"task": "", "low": "1e-3", "high": "1e-1", "budget": 80, "more": ""} | changes
    path = tmp_path / "experiment.py"
    path.write_text(SMALL.format(**given))
    return path


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        command_line([str(argument) for argument in arguments])
    out, error = capsys.readouterr()
    return ended.value.code, out, error


@pytest.fixture
def run_directory(tmp_path, capsys):
    code, out, _ = call(capsys, "run", write(tmp_path), "--directory", tmp_path / "run")
    assert code == 0
    return tmp_path / "run", out


def test_run_ends_with_the_best_members_the_directory_and_the_dashboard(run_directory):
    directory, out = run_directory
    assert "best members" in out and "valid" in out and "learning" in out
    assert re.search(r"with learning_rate=0\.\d{4,6}, width=4\n", out), "rounded"
    assert f"run directory: {directory}" in out
    assert f"swarmjax dashboard {directory}" in out


def test_options_replace_the_files_settings(tmp_path, capsys):
    arguments = ("--members", 3, "--budget", 33, "--policy", "random_search", "--seed", 9)
    code, _, _ = call(capsys, "run", write(tmp_path), "--directory", tmp_path / "run", *arguments)
    reader = sj.open_run(tmp_path / "run")
    assert code == 0
    assert (reader.config["members"], reader.config["budget"], reader.config["seed"]) == (3, 33, 9)
    assert "random" in reader.config["policy"]
    assert reader.frames().to_pandas().steps.sum() == 33


def test_the_model_of_a_builtin_task_is_chosen_by_name(tmp_path, capsys):
    code, _, error = call(capsys, "run", "digits", "--model", "rnn", "--directory", tmp_path / "a")
    assert code == 2 and "model 'rnn' is unknown; built-in ones are mlp, cnn" in error
    code, _, error = call(capsys, "run", "spirals", "--model", "cnn", "--directory", tmp_path / "a")
    assert code == 2 and "a CNN needs images" in error and not (tmp_path / "a").exists()


def test_runs_lists_what_there_is_with_unreadable_ones(run_directory, tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "swarm.db").write_bytes(b"not a database at all")
    code, out, _ = call(capsys, "runs", tmp_path)
    assert code == 0 and "finished" in out and "80 of 80" in out and "unreadable" in out


def test_runs_of_an_empty_directory_says_so(tmp_path, capsys):
    code, _, error = call(capsys, "runs", tmp_path)
    assert code == 2 and "no run at or below" in error


@pytest.fixture
def going(tmp_path):
    """The directory of a run that goes on, as yet without a round."""
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1))
    writer = store.create(tmp_path / "going", {"members": 4, "budget": 80}, space)
    writer.steering({"goal.accuracy": Dial(0.7, -9.0, 9.0)}, False)
    yield tmp_path / "going"
    writer.close()


def test_a_run_is_steered_and_tells_what_was_asked(going, capsys):
    assert "nothing was asked" in call(capsys, "steer", going)[1]
    code, out, error = call(capsys, "steer", going, "turn", "goal.accuracy=-0.5", "--who", "ada")
    assert (code, error) == (0, "") and "turn goal.accuracy=-0.5" in out and "queued" in out
    call(capsys, "steer", going, "pause", "--who", "bob", "--wait", "0.2")
    lines = call(capsys, "steer", going)[1].splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["ada", "bob"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("kill 2", "wait for the end of the first round"),
        ("turn goal.accuracy=10", "must lie between -9 and 9"),
        ("undo x", "write it as: undo 12"),
        ("destroy", "is no directive"),
    ],
)
def test_what_cannot_be_asked_gets_one_line(going, words, why, capsys):
    code, out, error = call(capsys, "steer", going, *words.split())
    assert (code, out) == (2, "") and why in error and error.count("\n") == 1
    assert "nothing was asked" in call(capsys, "steer", going)[1]


def test_nothing_is_asked_of_a_finished_run(run_directory, capsys):
    code, _, error = call(capsys, "steer", run_directory[0], "kill", "2")
    assert code == 2 and "the run is finished: nothing more can be asked of it" in error


def test_export_is_enough_to_use_the_network_without_the_engine(run_directory, tmp_path, capsys):
    directory, _ = run_directory
    code, out, _ = call(capsys, "export", directory, tmp_path / "out")
    assert code == 0 and "params.npz" in out
    text = (tmp_path / "out" / "genome.json").read_text()
    assert text.endswith("}\n")
    record = json.loads(text)
    assert record["genome"]["width"] == 4
    with np.load(tmp_path / "out" / "params.npz", allow_pickle=False) as arrays:
        assert arrays["Dense_0/kernel"].shape == (3, 4)


def test_export_never_overwrites(run_directory, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    code, _, error = call(capsys, "export", run_directory[0], tmp_path / "out")
    assert code == 2 and "exists already" in error


def test_where_a_run_is_stored_is_told_before_what_it_does(tmp_path, capsys):
    code, _, error = call(capsys, "run", write(tmp_path), "--directory", tmp_path / "run")
    assert code == 0 and error.startswith("storing the run in")
    assert "compiling took" in error and " 0/1 " not in error


def test_the_help_of_a_file_says_what_it_does_without_options(tmp_path, capsys):
    experiment = load(write(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(experiment, ["--help"])
    assert ended.value.code == 0
    assert "members 4, budget 80, seed 0" in " ".join(capsys.readouterr().out.split())


REFUSALS = {
    "unknown task": (("run", "digitz"), "neither a task"),
    "no such file": (("run", "nowhere.py"), "is not a file"),
    "unknown policy": (("run", "digits", "--policy", "pbtt"), "did you mean pbt"),
    "unreadable goal": (("run", "digits", "--goal", "accuracy"), "goal 'accuracy' cannot be read"),
    "budget too small": (("run", "digits", "--budget", "40"), "raise budget or lower members"),
    "no members": (("run", "digits", "--members", "0"), "members must be a whole number >= 1"),
    "no run there": (("dashboard", "nowhere"), "holds no run"),
    "nothing to export": (("export", "nowhere", "out"), "holds no run"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_line_and_writes_nothing(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = REFUSALS[case]
    code, _, error = call(capsys, *arguments)
    assert code == 2 and message in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


FILES = {
    "low above high": ({"low": "0.1", "high": "0.01"}, "low < high"),
    "output does not fit": (
        {"task": ", outputs=3", "more": "model=lambda width: Wrong(),"},
        "Wrong",
    ),
    "not python": ({"more": "$"}, "SyntaxError"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_get_one_line_and_write_nothing(case, tmp_path, capsys):
    changes, message = FILES[case]
    path = write(tmp_path, **changes)
    code, _, error = call(capsys, "run", path, "--directory", tmp_path / "run")
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def refused(tmp_path, capsys, source, directory=None):
    path = tmp_path / "experiment.py"
    path.write_text(source)
    where = directory or tmp_path / "run"
    code, _, error = call(capsys, "run", path, "--directory", where)
    assert code == 2 and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_a_model_whose_output_does_not_fit_is_refused(tmp_path, capsys):
    source = SMALL.format(task="", low=1e-3, high=1e-1, budget=80, more="model=Wrong,")
    wrong = "import flax.linen as nn\nclass Wrong(nn.Module):\n    width: int\n    @nn.compact\n"
    wrong += "    def __call__(self, x):\n        return nn.Dense(7)(x)\n"
    error = refused(tmp_path, capsys, wrong + source)
    assert "returns shape (2, 7)" in error and "needs (2, 2)" in error
    assert not (tmp_path / "run").exists()


def test_data_with_nan_is_refused(tmp_path, capsys):
    source = SMALL.format(task="", low=1e-3, high=1e-1, budget=80, more="")
    spoilt = source.replace(
        "experiment =", "y = (x[:, 0] > 0).astype(int)\nx[7, 1] = np.nan\nexperiment ="
    )
    error = refused(tmp_path, capsys, spoilt)
    assert "NaN" in error and not (tmp_path / "run").exists()


def test_a_directory_that_holds_a_run_is_refused_and_untouched(run_directory, tmp_path, capsys):
    directory, _ = run_directory
    before = {p: p.stat().st_mtime_ns for p in directory.rglob("*")}
    error = refused(tmp_path, capsys, write(tmp_path).read_text(), directory)
    assert "already holds a run" in error and "--directory" in error
    assert before == {p: p.stat().st_mtime_ns for p in directory.rglob("*")}


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    source = write(tmp_path).read_text()
    error = refused(tmp_path, capsys, source, tmp_path / "file" / "run")
    assert "not a directory" in error


def test_a_missing_experiment_is_named(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1")
    with pytest.raises(sj.InputError, match="must define `experiment"):
        load(tmp_path / "empty.py")


def test_an_error_in_the_users_file_names_its_line(tmp_path):
    (tmp_path / "bad.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(sj.InputError, match="bad.py line 2: ZeroDivisionError"):
        load(tmp_path / "bad.py")


def test_a_swarm_that_diverges_fails_with_code_one(tmp_path, capsys):
    path = write(tmp_path, low="1e37", high="1e38", more='policy="random_search",')
    code, _, error = call(capsys, "run", path, "--directory", tmp_path / "run")
    assert code == 1 and "diverged" in error.splitlines()[-1]


def test_ctrl_c_is_answered_at_once_and_ends_the_run(tmp_path):
    path = write(tmp_path, budget=10_000_000)
    command = [
        sys.executable,
        "-m",
        "swarmjax",
        "run",
        str(path),
        "--directory",
        str(tmp_path / "r"),
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "compiling a program" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert "finishing the round and saving it" in rest
    told = re.search(r"swarmjax: stopped after round (\d+); give --resume", rest)
    assert told and process.returncode == 130
    # Before the first round there is nothing to save.
    round = int(told[1])
    assert checkpoints.rounds(tmp_path / "r") == [round] * (round > 0)
    assert (", from the start" in rest) == (round == 0)
    assert sj.open_run(tmp_path / "r").status().state == "stopped"


def test_a_run_is_replayed_and_a_finished_one_is_not_resumed(tmp_path, capsys):
    path, run = write(tmp_path), tmp_path / "run"
    assert call(capsys, "run", path, "--directory", run)[0] == 0
    replay = ("replay", run, "--experiment", path, "--member", 2)
    code, out, _ = call(capsys, *replay)
    assert code == 0 and "numbers and weights are those of the run, for member 2" in out
    assert re.search("hash of its weights: [0-9a-f]{32}", out)
    code, out, error = call(capsys, *replay, "--round", 1, "--from-seed")
    assert "round 1 of 1" in error
    assert code == 0 and "round 1 rebuilt" in out and "no hash of its weights was kept" in out
    code, _, error = call(capsys, "replay", run)
    assert code == 2 and "name the file that defines it" in error
    code, _, error = call(capsys, "run", path, "--directory", run, "--resume")
    assert code == 2 and "is finished; there is nothing to resume" in error


def test_a_file_may_import_its_neighbours_and_postpone_annotations(tmp_path):
    (tmp_path / "neighbour_of_it.py").write_text("width = 4\n")
    source = "from __future__ import annotations\nimport flax.linen as nn\nimport neighbour_of_it\n"
    source += "class Net(nn.Module):\n    width: int\n    @nn.compact\n    def __call__(self, x):\n"
    source += "        return nn.Dense(2)(x)\n"
    path = write(tmp_path, more="model=Net,")
    path.write_text(source + path.read_text().lstrip())
    assert load(path).model.__name__ == "Net"


def test_an_error_of_many_lines_is_told_in_one(tmp_path, capsys):
    assert "a b c" in refused(tmp_path, capsys, "raise ValueError('a\\nb\\nc')")


def test_every_experiment_file_defines_one():
    folder = Path(__file__).parents[1] / "experiments"
    names = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    # What joins a swarm as a node defines none: `test_pytorch_node`.
    names.remove("pytorch_node")
    assert {"digits", "own_model"} <= set(names)
    for name in names:
        module = importlib.import_module(f"experiments.{name}")
        assert isinstance(module.experiment, sj.Experiment) and module.__doc__


def test_an_experiment_file_is_a_program(tmp_path):
    experiment = load(Path(__file__).parents[1] / "experiments" / "own_model.py")
    options = ["--members", "4", "--budget", "8", "--directory", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main(experiment, options)
    assert ended.value.code == 0
    stored, record = sj.open_run(tmp_path / "run").best()
    assert "Conv_0/kernel" in stored and set(record["genome"]) == {
        "learning_rate", "optimizer", "channels",
    }  # fmt: skip


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "swarmjax", "run", "nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "neither a task" in ended.stderr


def test_the_schema_names_every_column_there_is(capsys):
    code, out, _ = call(capsys, "schema")
    assert code == 0
    for column in ("train_loss_last", "monotonic_ns", "clock_bound", "gpu_memory", "parameters"):
        assert column in out
    assert "Version 1 of run directories" in out and "Announce: A node joins" in out
