import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import swarmjax as sj
from paper import bench_search, benchmark, curves, figures, lcbench, lcbench_searches, measure
from swarmjax.allocate import uniform
from swarmjax.policy import stateless
from swarmjax.types import InputError

TABLE = Path(lcbench.__file__).with_name("lcbench.npz")


@pytest.fixture(scope="module")
def recorded():
    with np.load(TABLE, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def genome_of(recorded):
    return {name: recorded[f"gene_{name}"] for name, _ in lcbench.SPACE.genes}


@pytest.fixture(scope="module")
def table(recorded):
    """Curves of the recorded configuration that is nearest to the one asked for."""
    known = np.asarray(lcbench.SPACE.encode(genome_of(recorded)))

    def ask(genome):
        asked = np.asarray(lcbench.SPACE.encode(genome))
        nearest = ((asked[:, None] - known) ** 2).sum(-1).argmin(1)
        names = ("valid_accuracy", "valid_loss", "test_balanced_accuracy")
        return {name: recorded[f"167168_{name}"][nearest] for name in names}

    return ask


SLOPE = sj.Space(slope=sj.uniform(0.0, 1.0))


def lines(genome):
    """Ten epochs in which accuracy rises by a hundredth of the slope; the test's is half of it."""
    slope = np.asarray(genome["slope"])[:, None]
    rise = (slope * np.arange(1, 11) / 100).astype(np.float32)
    return {"valid_accuracy": rise, "valid_loss": 1 - rise, "test_balanced_accuracy": rise / 2}


def slopes(*values):
    genome = {"slope": np.asarray(values, np.float32)}
    return curves.first_frame(SLOPE, genome, quota=100, budget=1000)


def plan_of(frame, steps, **changes):
    steps = np.asarray(steps, np.int32)
    return sj.policy.keep(frame)._replace(steps=steps, **changes)


def test_the_model_is_asked_in_the_order_and_units_of_yahpo():
    asked = []

    def ask(question):
        asked.append(question)
        rows = len(question["x_cont"])
        return np.tile(np.asarray([[9.0, 50.0, -0.1, 0.4, 2.0, 1.5]], np.float32), (rows, 1))

    genome = {
        "batch_size": [16.4, 511.6], "learning_rate": [0.1, 0.01], "max_dropout": [0.0, 1.0],
        "max_units": [64.5001, 1000.2], "momentum": [0.1, 0.9], "num_layers": [0, 4],
        "weight_decay": [0.05, 0.001],
    }  # fmt: skip
    found = lcbench.predict(ask, 7, {name: np.asarray(v) for name, v in genome.items()})
    (question,) = asked
    assert question["x_cat"].dtype == np.int32 and question["x_cont"].dtype == np.float32
    assert question["x_cat"].shape == (104, 1) and (question["x_cat"] == 7).all()
    first = [1, 16, 0.1, 0.1, 0.05, 1, 65, 0.0]
    np.testing.assert_allclose(question["x_cont"][0], first, rtol=1e-6)
    last = [52, 512, 0.01, 0.9, 0.001, 5, 1000, 1.0]
    np.testing.assert_allclose(question["x_cont"][-1], last, rtol=1e-6)
    assert {name: (v.shape, v[0, 0], v[1, 51]) for name, v in found.items()} == {
        "valid_accuracy": ((2, 52), 0.5, 0.5),
        "valid_loss": ((2, 52), 0.0, 0.0),
        "test_balanced_accuracy": ((2, 52), 1.0, 1.0),
    }


def test_however_many_are_asked_for_each_gets_its_own_curve(monkeypatch):
    monkeypatch.setattr(lcbench, "_CHUNK", 3)
    genome = lcbench.SPACE.draw(3, 8)

    def ask(question):
        accuracy = question["x_cont"][:, 2] * 100 + question["x_cont"][:, 0]
        return np.repeat(accuracy[:, None], 6, axis=1)

    found = lcbench.predict(ask, 1, genome)["valid_accuracy"]
    np.testing.assert_allclose(found[:, 9], genome["learning_rate"] + 0.1, rtol=1e-5)


def test_absent_files_are_told_with_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(lcbench.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(lcbench_searches, "need", lambda *modules: None)
    with pytest.raises(measure.MissingData, match="no model.onnx and no encoding.json; fetch"):
        lcbench.find_files()
    rows, out = {"lcbench": bench_search.ROWS["lcbench"]}, tmp_path / "a.json"
    assert benchmark.benchmark("search", rows, ["--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "row lcbench not measured: " in told and lcbench.VARIABLE in told
    record = json.loads(out.read_text())["rows"]["lcbench"]
    assert record["reason"].startswith("not measured: ") and record["raw"] is None
    for name in lcbench.FILES:
        (tmp_path / name).write_text("")
    monkeypatch.setenv(lcbench.VARIABLE, str(tmp_path))
    assert lcbench.find_files() == tmp_path


def test_a_row_with_bars_tells_in_each_that_its_data_are_absent():
    def measured(quick):
        raise measure.MissingData("fetch x")

    row = measure.Row(lambda quick: {"speed": measure.at_least(2.0)}, measured)
    (bar,), record = measure.measure_row(row, False)
    assert bar.line() == "bar speed - >=2 not measured: fetch x"
    assert benchmark.untold({"a": record}) == []
    assert benchmark.untold({"a": {"bars": [], "raw": 1}}) == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"OpenML_task_id": {"1": "x"}}'])
def test_another_encoding_is_refused(tmp_path, text):
    (tmp_path / "encoding.json").write_text(text)
    with pytest.raises(InputError, match="is not YAHPO's encoding"):
        lcbench._codes(tmp_path / "encoding.json")


def test_an_unknown_task_is_refused_with_the_known_ones(monkeypatch, tmp_path):
    (tmp_path / "encoding.json").write_text('{"OpenML_task_id": {"#na#": 0, "3945": 34}}')
    monkeypatch.setattr(lcbench, "need", lambda *modules: None)
    monkeypatch.setattr(lcbench, "_session", lambda path: None)
    with pytest.raises(InputError, match="no task '1'; known: 3945$"):
        lcbench.load(tmp_path)("1")


def test_another_model_is_refused():
    def session(cont, outputs):
        inputs = [SimpleNamespace(name="x_cat", shape=["n", 1])]
        inputs += [SimpleNamespace(name="x_cont", shape=["n", cont])]
        told = [SimpleNamespace(name="output", shape=["n", outputs])]
        return SimpleNamespace(get_inputs=lambda: inputs, get_outputs=lambda: told)

    lcbench.check_shapes(TABLE, session(8, 6))
    for wrong in (session(7, 6), session(8, 5)):
        with pytest.raises(InputError, match="is not YAHPO's surrogate of LCBench"):
            lcbench.check_shapes(TABLE, wrong)


def test_a_member_shows_its_curve_at_its_epochs_and_a_fresh_one_begins_anew():
    frame, everyone = slopes(1.0, 0.5), np.ones(2, bool)
    reader = curves.Reader(lines, 2)
    frame = reader.round(plan_of(frame, [3, 0], fresh=everyone), frame)
    np.testing.assert_allclose(frame.metrics["valid_accuracy"], [0.03, np.nan], rtol=1e-6)
    frame = reader.round(plan_of(frame, [9, 4]), frame)
    # The curve ends after ten epochs: two of the first member's were spent for nothing.
    np.testing.assert_allclose(frame.metrics["valid_accuracy"], [0.10, 0.02], rtol=1e-6)
    assert frame.total_steps.tolist() == [12, 4] and (reader.tried, reader.wasted) == (2, 2)
    assert reader.best(frame) == pytest.approx((0.10, 0.05, 10))
    new = {"slope": np.asarray([0.2, 0.5], np.float32)}
    plan = plan_of(frame, [1, 0], fresh=np.asarray([True, False]), genome=new)
    after = reader.round(plan, frame)
    np.testing.assert_allclose(after.metrics["valid_accuracy"], [0.002, 0.02], rtol=1e-6)
    assert after.total_steps.tolist() == [1, 4] and reader.tried == 3
    assert after.birth[0] not in frame.birth and after.birth[1] == frame.birth[1]
    assert int(after.remaining) == 1000 - 17 and set(after.metrics) == set(frame.metrics)
    assert not any(name.startswith("test") for name in after.metrics), "policies see no test data"


def test_a_search_spends_its_epochs_and_ends_with_the_best_seen():
    search = curves.Search(SLOPE, curves.Setting(4, rounds=3, quota=8), uniform())
    found, best = search(lines, seed=5), SLOPE.draw(5, 4)["slope"].max()
    np.testing.assert_allclose(found.curve, best * np.asarray([0.02, 0.04, 0.06]), rtol=1e-6)
    assert found[1:] == pytest.approx((best * 0.06, best * 0.03, 6, 4, 0))
    assert search(lines, seed=5) == found != search(lines, seed=6)


def test_what_falls_later_is_not_what_is_told():
    def arcs(genome):
        rise = lines(genome)
        return {name: np.concatenate([v[:, :4], v[:, :6] * 0], 1) for name, v in rise.items()}

    found = curves.Search(SLOPE, curves.Setting(2, 3, 4), uniform())(arcs, seed=0)
    assert found.epochs == 4 and found.valid == found.curve[1] == found.curve[2] > 0


def test_policies_that_need_weights_are_refused():
    setting = curves.Setting(8, rounds=4, quota=16)
    with pytest.raises(InputError, match="takes over weights.*leave exploit"):
        curves.Search(SLOPE, setting, sj.preset("pbt"))(lines, seed=0)
    idle = stateless(lambda key, plan, frame: plan, "idle()")
    with pytest.raises(InputError, match="policy idle.. grants no member an epoch"):
        curves.Search(SLOPE, setting, idle)(lines, seed=0)


def test_only_who_starts_fresh_may_change_genes():
    frame, other = slopes(1.0, 0.5), {"slope": np.asarray([1.0, 0.4], np.float32)}
    curves.check_weightless(plan_of(frame, [1, 1], genome=other), frame)
    trained = frame._replace(total_steps=np.asarray([1, 1], np.int32))
    with pytest.raises(InputError, match="gene slope of member 1 changes within its training"):
        curves.check_weightless(plan_of(trained, [1, 1], genome=other), trained)
    fresh = plan_of(trained, [1, 1], genome=other, fresh=np.asarray([False, True]))
    curves.check_weightless(fresh, trained)
    mixed = plan_of(trained, [1, 1], operator=np.asarray([0, 1], np.int32))
    with pytest.raises(InputError, match="member 1 takes over weights"):
        curves.check_weightless(mixed, trained)


@pytest.fixture(scope="module")
def outcomes(table):
    searches = lcbench_searches.prepare()
    return {name: [search(table, seed) for seed in range(2)] for name, search in searches.items()}


def test_every_rival_spends_the_same_epochs_within_the_recorded_accuracies(outcomes, recorded):
    assert outcomes.keys() == lcbench_searches.RIVALS.keys()
    for rival in lcbench_searches.RIVALS.values():
        setting = lcbench_searches.setting(rival)
        assert setting.rounds * setting.quota == lcbench_searches.BUDGET
        assert setting.quota % setting.members == 0, "equal steps can be whole"
    most = recorded["167168_valid_accuracy"].max()
    for name, some in outcomes.items():
        for found in some:
            assert found.curve == sorted(found.curve) and 0 < found.valid <= most, name
            assert 0 <= found.wasted < lcbench_searches.BUDGET / 10, name
            assert 1 <= found.epochs <= lcbench.LAST, name


def test_rivals_are_what_their_names_say(outcomes):
    def tried(name):
        return [found.tried for found in outcomes[name]]

    same = ("successive_halving", "softmax", "proportional", "rank", "projected_gain")
    for name in same:
        assert tried(name) == [64, 64]
        # The first round is that of random search but where halving begins with less.
        firsts = [found.curve[0] for found in outcomes[name]]
        assert firsts == [found.curve[0] for found in outcomes["random_search"]], name
    assert tried("tpe") == [64, 64] and tried("random_search, 16") == [16, 16]
    assert all(found.epochs <= 12 for found in outcomes["tpe"])
    assert outcomes["grid_search"][0] == outcomes["grid_search"][1]
    assert outcomes["sobol"][0] != outcomes["sobol"][1]
    last = [found.epochs for found in outcomes["successive_halving"]]
    assert max(last) == lcbench.LAST


def test_regret_and_gains_are_paired_and_in_points():
    def outcome(valid):
        return curves.Outcome([valid - 0.1, valid], valid, valid / 2, 12, 64, 0)

    found = {
        "random_search": [outcome(0.5 + seed / 100) for seed in range(8)],
        "rank": [outcome(0.52 + seed / 100) for seed in range(8)],
    }
    told = lcbench_searches.record(found, best=0.6)
    assert told["best_known"] == 60
    # The middle half of 0.50 ... 0.57 has the mean 0.535.
    assert told["regret"]["random_search"]["value"] == pytest.approx(6.5)
    assert told["gain"] == {"rank": pytest.approx({"value": 2.0, "low": 2.0, "high": 2.0})}
    assert told["test_gain"]["rank"]["value"] == pytest.approx(1.0)
    assert [each["value"] for each in told["regret_curve"]["rank"]] == pytest.approx([14.5, 4.5])
    assert told["outcomes"]["rank"]["valid"][1] == 0.53 and "curve" not in told["outcomes"]["rank"]
    json.dumps(told, allow_nan=False)


def test_the_best_known_is_of_a_sample_or_of_a_search(table, recorded, monkeypatch):
    monkeypatch.setattr(lcbench_searches, "SAMPLE", 9)
    poor = {"rank": [curves.Outcome([0.1], 0.1, 0.1, 1, 1, 0)]}
    best = lcbench_searches.best_known(table, poor)
    assert best == pytest.approx(float(recorded["167168_valid_accuracy"].max()))
    found = {"rank": [curves.Outcome([0.99], 0.99, 0.1, 1, 1, 0)]}
    assert lcbench_searches.best_known(table, found) == 0.99


def test_the_row_measures_writes_and_draws(table, monkeypatch, tmp_path):
    rivals = {name: lcbench_searches.RIVALS[name] for name in ("random_search", "rank")}
    for name, value in {"RIVALS": rivals, "FEW_SEEDS": 3, "SAMPLE": 5}.items():
        monkeypatch.setattr(lcbench_searches, name, value)
    monkeypatch.setattr(lcbench_searches, "need", lambda *modules: None)
    monkeypatch.setattr(lcbench, "find_files", lambda: tmp_path)
    monkeypatch.setattr(lcbench, "load", lambda folder: lambda task: table)
    # The table is of one task, whatever is asked for.
    monkeypatch.setattr(lcbench, "check_known", lambda curves_of: None)
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    values, raw = lcbench_searches.searches().measure(True)
    assert values == {} and set(raw["tasks"]) == set(lcbench_searches.TASKS[:2])
    assert len(raw["tasks"]["167168"]["outcomes"]["rank"]["valid"]) == 3
    drawn = {path.name for path in tmp_path.iterdir()}
    assert {"lcbench-quick.svg", "lcbench-quick.png"} <= drawn
    assert raw["model_sha256"].startswith("e3b0c442")


def test_without_optuna_its_sampler_alone_is_left_out(monkeypatch):
    monkeypatch.setattr(lcbench_searches.importlib.util, "find_spec", lambda name: None)
    assert lcbench_searches.RIVALS.keys() - lcbench_searches.prepare().keys() == {"tpe"}


def test_another_surrogate_than_the_published_one_is_refused(recorded):
    def curves_of(task, off=0.0):
        names = ("valid_accuracy", "valid_loss", "test_balanced_accuracy")
        return lambda genome: {name: recorded[f"{task}_{name}"] + off for name in names}

    lcbench.check_known(curves_of)
    with pytest.raises(InputError, match="valid_accuracy on task 167168 is off by up to 0.001"):
        lcbench.check_known(lambda task: curves_of(task, 1e-3))
