import json
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from paper import (
    bench_engine,
    measure,
    memory,
    mixed,
    side_jax,
    swarms,
    throughput,
    uneven,
    whole_data,
    whole_process,
    whole_swarmjax,
    workers,
)
from swarmjax import experiment, optimizers


def row(values, targets=None, error=None):
    """A row that measures `values`, or fails."""

    def found(quick):
        if error:
            raise error
        return values, {"quick": quick}

    return measure.Row(lambda quick: targets or {}, found)


def test_a_bar_is_met_at_its_target_and_not_by_nan():
    more, less = measure.at_least(2.0), measure.at_most(0.5)
    verdicts = [more.met_by(2.0), more.met_by(1.99), less.met_by(0.5), less.met_by(0.51)]
    assert verdicts == [True, False, True, False]
    assert not more.met_by(math.nan)
    assert not less.met_by(math.nan)


def test_a_bar_has_one_line():
    target = measure.at_least(2.0)
    assert measure.Bar("speed", target, 3.14159).line() == "bar speed 3.14 >=2 met"
    assert measure.Bar("speed", target, 1.0).line() == "bar speed 1 >=2 missed"
    skipped = measure.Bar("speed", target, None, "skipped (install '.[bench]')")
    assert skipped.line() == "bar speed - >=2 skipped (install '.[bench]')"
    assert not skipped.met


def test_averages():
    assert measure.median([3.0, 1.0, 2.0]) == 2.0
    assert measure.median([4.0, 1.0]) == 2.5
    assert measure.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def test_a_missing_peer_skips_its_row_and_a_failure_is_told():
    targets = {"speed": measure.at_least(2.0)}
    with pytest.raises(measure.MissingPeer, match="no_such_module"):
        measure.need("json", "no_such_module")
    absent = row({}, targets, measure.MissingPeer("torch"))
    (bar,), record = measure.measure_row(absent, False)
    assert bar.reason == "skipped (install '.[bench]')"
    assert record["bars"][0]["met"] is False
    (bar,), _ = measure.measure_row(row({}, targets, ValueError("no luck\nat all")), False)
    assert bar.line() == "bar speed - >=2 failed (ValueError: no luck)"


def test_a_value_that_is_not_a_number_is_not_met_and_one_that_is_missing_is_not_either():
    targets = {"a": measure.at_least(1.0), "b": measure.at_least(1.0)}
    bars, _ = measure.measure_row(row({"a": math.nan}, targets), False)
    assert [bar.met for bar in bars] == [False, False]
    assert bars[1].line() == "bar b - >=1 failed (not measured)"


@pytest.mark.parametrize(("value", "code"), [(3.0, 0), (1.0, 1)])
def test_the_command_writes_everything_and_its_exit_code_tells_whether_all_bars_are_met(
    tmp_path, capsys, value, code
):
    target = {"speed": measure.at_least(2.0)}
    rows = {"good": row({"speed": value}, target), "other": row({}, {"no": measure.at_most(1.0)})}
    out = tmp_path / "new" / "engine.json"
    arguments = ["--quick", "--only", "good", "--out", str(out)]
    assert bench_engine.main(arguments, rows) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"bar speed {value:g} >=2 ")
    record = json.loads(out.read_text())
    assert record["rows"].keys() == {"good"}
    assert record["rows"]["good"]["bars"][0]["value"] == value
    assert record["rows"]["good"]["raw"] == {"quick": True}
    assert {"cpu", "cores", "memory_gib", "commit", "date", "versions"} <= record["machine"].keys()


def test_a_skipped_row_is_not_a_success(tmp_path):
    rows = {"peer": row({}, {"speed": measure.at_least(2.0)}, measure.MissingPeer("ray"))}
    assert bench_engine.main(["--out", str(tmp_path / "a.json")], rows) == 1


def test_nothing_measured_is_not_a_success(tmp_path):
    out = ["--out", str(tmp_path / "a.json")]
    absent = row({}, error=measure.MissingData("no such file"))
    assert bench_engine.main(out, {"gpu": absent}) == 1
    # A table without bars that was measured is one.
    assert bench_engine.main(out, {"gpu": row({})}) == 0


def test_an_unknown_row_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        bench_engine.main(["--only", "luups"])
    assert "loops" in capsys.readouterr().err


def test_every_row_of_the_command_names_its_bars():
    bars = {name: row.targets(False) for name, row in bench_engine.ROWS.items() if name != "gpu"}
    assert all(bars.values())
    assert sum(name.startswith("scan-") for name in bars["loops"]) == len(throughput.GRID) + 1
    names = [name for some in bars.values() for name in some]
    assert len(set(names)) == len(names)
    for name, some in bars.items():
        assert bench_engine.ROWS[name].targets(True).keys() <= some.keys()


def test_machine_names_are_fit_for_files():
    facts = {"cores": 2, "cpu": "AMD EPYC (7B13) / x", "gpu": []}
    assert measure.machine_name(facts) == "2-core-amd-epyc-7b13-x"
    assert measure.machine_name(facts | {"gpu": ["NVIDIA H100"]}) == "2-core-nvidia-h100"


def test_both_sides_update_alike_with_every_optimizer():
    space = swarms.mixed_work(2).recipe.space
    params, gradient = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.3, 0.1])}
    rates = {"learning_rate": 0.1, "weight_decay": 0.01}
    for index, name in enumerate(space["optimizer"].options):
        ours = optimizers.from_genome(space, rates | {"optimizer": index})
        results = []
        for rule in (ours, side_jax.optimizer(name, rates)):
            state, now = rule.init(params), params
            for _ in range(3):
                updates, state = rule.update(gradient, state, now)
                now = optax.apply_updates(now, updates)
            results.append(now["w"])
        np.testing.assert_allclose(*results, rtol=1e-5, err_msg=name)


def test_the_mixed_swarm_is_as_described():
    work = swarms.mixed_work()
    values = [work.values(member) for member in range(256)]
    widths = np.array([value["width"] for value in values])
    assert (widths.min(), widths.max()) >= (8, 120)
    assert 28 <= np.median(widths) <= 37, "log-uniform: half of them are below 32"
    assert {value["depth"] for value in values} == {1, 2, 3, 4}
    assert len({value["optimizer"] for value in values}) == 5
    assert len({value["activation"] for value in values}) == 4
    for gene, value in work.recipe.space.genes:
        assert value.legal(work.genome[gene]).all()


def test_a_peer_trains_alike_step_by_step_and_in_scans():
    work = swarms.mlp_work(2, 4, steps=4)
    by_step = side_jax.rounds(work, [0, 1], 1)
    by_scan = side_jax.rounds(work, [0, 1], 2)
    first, second = (by_step(), by_step()), (by_scan(), by_scan())
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    assert first[1]["valid_loss"] < first[0]["valid_loss"]


def test_a_share_has_all_members_of_its_programs():
    work = swarms.mixed_work(64)
    parts = [side_jax.chosen(work, i, 3) for i in range(3)]
    assert sorted(sum(parts, [])) == list(range(64))
    groups = side_jax.distinct(work)
    assert len(groups) > 32
    assert all(any(set(group) <= set(part) for part in parts) for group in groups.values())


def test_scaling_parts_to_the_whole():
    found = {"programs": 2, "networks": 3, "all_programs": 8, "all_networks": 9}
    whole = mixed.scaled([{"cold": 5.0, "warm": 1.0, "found": found}])
    assert whole == {"warm": 3.0, "compile": 16.0, "cold": 19.0}


def test_pareto_grants_are_as_many_as_equal_ones():
    for members, mean in ((256, 100), (64, 200)):
        steps = uneven.pareto_grants(members, mean)
        assert steps.sum() == members * mean
        assert steps.min() >= 1
        assert 6.0 <= steps.max() / mean <= 7.0
        assert np.median(steps) < mean / 1.5


def test_exact_bytes_of_a_swarm():
    work = swarms.mlp_work(10, 32)
    weights = 64 * 32 + 32 + 32 * 10 + 10
    # Weights and two moments, the count of steps of optimizer and member.
    member = 4 * (3 * weights + 2)
    examples = sum(len(split.y) for split in (work.task.train, work.task.valid))
    assert memory.exact_bytes(work) == 10 * member + examples * (64 * 4 + 4)


def test_the_peak_of_memory_is_seen_and_forgotten():
    big = np.ones(50_000_000, np.uint8)
    assert memory.peak() > big.nbytes
    before = memory.peak_from_now()
    big2 = np.ones(80_000_000, np.uint8)
    grown = memory.peak() - before
    assert big2.nbytes * 0.9 < grown < big2.nbytes * 1.5
    del big, big2
    assert memory.peak_from_now() < before - 40_000_000 or memory.peak() >= before


def test_sides_must_have_done_the_same_work():
    def side(loss):
        return {"found": {"valid_loss": loss}}

    workers.check_same_work({"a": side(1.0), "b": side(1.04)})
    with pytest.raises(ValueError, match="same work"):
        workers.check_same_work({"a": side(1.0), "b": side(1.2)})
    with pytest.raises(ValueError, match="same work"):
        workers.check_same_work({"a": side(1.0), "b": side(math.nan)})


def test_the_engine_and_plain_jax_in_turn(monkeypatch):
    monkeypatch.setattr(throughput, "QUICK", [(16, 8)])
    values, raw = throughput.loops().measure(True)
    assert values.keys() == {"scan-16x8", "scan-mean"}
    assert values["scan-mean"] == pytest.approx(values["scan-16x8"])
    sides = raw[0]["sides"]
    assert len(sides["engine"]["warm"]) == len(sides["scan"]["warm"]) == 2
    assert sides["engine"]["compile"] > 0
    json.dumps(raw)


def test_balance_is_measured_on_eight_devices():
    values, raw = uneven.balance().measure(True)
    assert raw["devices"] == 8
    assert 0.2 < values["balance"] <= 1.0


def test_a_side_that_dies_says_why():
    with workers.Worker("paper.side_jax", "20") as worker:
        with pytest.raises(workers.WorkerError, match="side_jax 20: KeyError: 'nothing'"):
            worker.ask(case={"kind": "nothing"})


def test_the_whole_programs_search_the_same_data():
    (train, valid), again = whole_data.make_data(), whole_data.make_data()
    assert train.x.shape == (4000, 784)
    assert valid.x.dtype == np.float32
    jax.tree.map(np.testing.assert_array_equal, (train, valid), again)


def test_the_whole_program_is_a_sound_experiment(tmp_path, capsys, monkeypatch):
    def rehearsed(**settings):
        setup = experiment.check(experiment.Experiment(**settings))
        assert setup.experiment.budget == 16 * 200
        assert setup.task.train.x.shape == (4000, 784)
        return SimpleNamespace(best=SimpleNamespace(scores={"valid_accuracy": np.float32(0.5)}))

    monkeypatch.setattr(whole_swarmjax.sj, "run", rehearsed)
    whole_swarmjax.main(str(tmp_path))
    assert json.loads(capsys.readouterr().out) == {"valid_accuracy": 0.5}


def test_whole_programs_start_with_an_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    environment = whole_process.fresh(str(tmp_path))
    assert environment["XDG_CACHE_HOME"].startswith(str(tmp_path))
    assert "JAX_COMPILATION_CACHE_DIR" not in environment


def test_a_whole_program_that_fails_is_told():
    with pytest.raises(RuntimeError, match="no_such_program"):
        whole_process.run_program("paper.no_such_program")
