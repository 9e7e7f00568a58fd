import json
from types import SimpleNamespace

import numpy as np
import pytest

import swarmjax as sj
from paper import (
    bench_ablations,
    layouts,
    pairs,
    search,
    searches,
    side_engine,
    swarms,
    throughput,
    variants,
)
from swarmjax import resources


def test_a_layout_can_be_asked_for_instead_of_chosen():
    work = swarms.make_work("mlp", members=6, width=8, steps=3)
    told = []
    round = side_engine.rounds(work, told.append, side_engine.chosen(work, 1, 1))
    assert round()["valid_loss"] > 0
    assert any("training on 1 of 8 CPU devices" in text for text in told)
    assert any("one after the other" in text for text in told)


def test_layouts_are_told_against_the_chosen_one(monkeypatch):
    def compare(workers, case, count):
        assert list(workers)[0] == "chosen" and case["members"] == 64
        return {
            name: {"median": 2.0 * i + 1, "found": {"valid_loss": 1.0}}
            for i, name in enumerate(workers)
        }

    class Worker:
        def __init__(self, *side):
            assert side[:1] == throughput.ENGINE

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(layouts, "compare", compare)
    monkeypatch.setattr(layouts, "Worker", Worker)
    monkeypatch.setattr(resources, "cores", lambda: 2)
    over = layouts.measured((64, 16), quick=True)["over"]
    assert list(over) == [
        "chosen", "chunk 8 on 1", "chunk 32 on 1", "chunk 8 on 2", "chunk 32 on 2"
    ]  # fmt: skip
    assert over["chosen"] == 1.0 and over["chunk 32 on 2"] == pytest.approx(9.0)


@pytest.fixture
def toy(monkeypatch):
    """Searches of four members and two rounds on one task, for three seeds, by three policies."""
    space = sj.Space(
        learning_rate=sj.log_uniform(1e-3, 1e-1), depth=sj.structure(1, 2), width=sj.structure(8)
    )
    small = search.Case(sj.tasks.spirals(), space, members=4, steps=20, round_steps=10)
    monkeypatch.setattr(searches, "TASKS", ("spirals",))
    some = {name: variants.DIVERSE[name] for name in ("niches", "novelty")}
    monkeypatch.setattr(searches, "DIVERSE", some)
    monkeypatch.setattr(searches, "TOGETHER", 3)
    monkeypatch.setattr(searches, "seeds", lambda quick: range(3 if quick else 40))
    monkeypatch.setattr(searches, "case", lambda name: small)
    for held in (searches._case, searches._found):
        held.cache_clear()
    yield
    for held in (searches._case, searches._found):
        held.cache_clear()


def test_diversity_is_judged_by_the_ensemble_too(toy, tmp_path, capfd):
    path = tmp_path / "out.json"
    assert bench_ablations.main(["--quick", "--only", "diversity", "--out", str(path)]) == 0
    record = json.loads(path.read_text())["rows"]["diversity"]["raw"]["spirals"]
    policies = ["swarm", "niches", "novelty"]
    assert list(record["ensemble_over_best"]) == list(record["outcomes"]) == policies
    assert list(record["gains"]) == list(record["ensemble_gains"]) == policies[1:]
    for name in policies:
        outcomes, told = record["outcomes"][name], record["ensemble_over_best"][name]
        over = sorted(each["ensemble"] - each["test"] for each in outcomes)
        # Of three seeds a quarter is none: the mean of all.
        assert len(over) == 3 and told["value"] == pytest.approx(np.mean(over))
        assert over[0] - 1e-9 <= told["low"] <= told["value"] <= told["high"] <= over[2] + 1e-9
    gains = {"pair over its mean", "pair over its better", "ensemble over best, across swarms"}
    assert set(record["predicted"]) == gains
    for each in record["predicted"].values():
        assert set(each) == {"disagreement", "genome", "difference"}
        assert all(-2 <= i["low"] <= i["value"] <= i["high"] <= 2 for i in each.values())
    assert 0 <= record["outcomes"]["niches"][0]["pairs"]["disagreement"] <= 1
    lines = capfd.readouterr().err
    assert lines.count("ensemble over its best") == 3 and lines.count("rank correlation") == 3


def test_pairs_that_disagree_and_gain_are_told_from_those_with_other_genes():
    """The second errs elsewhere than the first, the third is the first with other genes."""
    truth = np.zeros(4, int)
    sure, right, wrong = [0.9, 0.1], [0.8, 0.2], [0.4, 0.6]
    first, second = [sure, sure, wrong, wrong], [wrong, wrong, sure, right]
    test = np.asarray([first, second, first])
    apart = np.asarray([[0.0, 0.1, 0.9], [0.1, 0.0, 0.5], [0.9, 0.5, 0.0]])
    found = pairs.weigh(test.argmax(-1), apart, test, truth)
    # All three are right on half; two of the pairs are right on all together.
    assert found.disagreement == pytest.approx((1 + 0 + 1) / 3)
    assert found.genome == pytest.approx(0.5) and found.gain == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert found.by_disagreement == found.better_by_disagreement == pytest.approx(1.0)
    # Ranks 1, 3, 2 of genes against 2.5, 1, 2.5 of gains.
    assert found.by_genome == found.better_by_genome == pytest.approx(-np.sqrt(3) / 2)


def test_what_is_constant_predicts_nothing():
    rising = np.arange(5.0)
    assert pairs.correlation(np.ones(5), rising) == pairs.correlation(rising, np.ones(5)) == 0.0
    assert pairs.correlation(rising, rising**3) == pytest.approx(1.0)


def test_across_swarms_the_seeds_are_drawn_with_all_their_policies():
    gain = np.random.default_rng(1).normal(size=(4, 12))
    noise = np.random.default_rng(2).normal(size=(4, 12))
    found = pairs.across({"disagreement": gain + 0.1 * noise, "genome": noise}, gain)
    assert found["disagreement"].low > 0.8 and found["difference"].low > 0.3
    assert found["genome"].low < 0 < found["genome"].high
    same = pairs.across({"disagreement": gain, "genome": gain}, gain)
    assert same["difference"] == (0.0, 0.0, 0.0) and same["genome"].low == pytest.approx(1.0)


def test_without_classes_there_are_no_pairs(frames):
    x = np.random.default_rng(0).normal(size=(60, 3))
    task = sj.tasks.arrays(x, x.sum(axis=1), batch=8)
    frame = frames([0.1, 0.2, 0.3])
    assert task.test is not None and task.valid.kind == "numbers"
    assert pairs.look(SimpleNamespace(task=task, goal=None), None, frame) is None


def test_ablations_have_no_bars():
    assert all(row.targets(False) == {} for row in bench_ablations.ROWS.values())
    assert {"links", "allocators", "diversity", "breeding", "layouts"} == set(bench_ablations.ROWS)
