import numpy as np
import pytest

import swarmjax as sj
from paper import bench_search, figures, intervals, known, search, searches, toys, variants
from swarmjax.allocate import uniform


def test_the_middle_mean_is_of_the_middle_half():
    found = intervals.middle_mean(np.asarray([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0]))
    assert found.value == 3.5 and found.low <= found.value <= found.high < 1000
    assert intervals.middle_mean(np.ones(5)) == (1.0, 1.0, 1.0)


def test_a_paired_difference_is_seen_through_what_seeds_share():
    rng = np.random.default_rng(1)
    theirs = rng.normal(0.0, 10.0, 40)
    gain = intervals.compare(theirs + 0.5 + rng.normal(0, 0.1, 40), theirs)
    assert 0.4 < gain.low < gain.value < gain.high < 0.6
    none = intervals.compare(rng.normal(size=40), rng.normal(size=40))
    assert none.low < 0 < none.high


def test_a_profile_falls_from_all_to_none():
    made = intervals.profile(np.asarray([1.0, 2.0, 3.0, 4.0]), np.asarray([0.0, 2.0, 3.5, 9.0]))
    assert made["share"] == [1.0, 0.75, 0.25, 0.0]
    assert all(
        low <= share <= high
        for low, share, high in zip(made["low"], made["share"], made["high"], strict=True)
    )


def test_the_toys_grid_stays_where_the_paper_says_and_the_first_step_is_by_hand():
    # Member 0 follows the first coordinate alone: 1.2 - 0.9^2 in the end.
    found = toys.play(
        pbt := toys.pbt_toy(), uniform(), seeds=3, members=2, rounds=40, round_steps=5
    )
    np.testing.assert_allclose(found, 1.2 - 0.81, atol=1e-3)
    after = pbt.step(None, np.asarray([0.9, 0.9]), {"h0": 1.0, "h1": 0.0})
    np.testing.assert_allclose(after, [0.9 * 0.96, 0.9], rtol=1e-6)


def test_the_quadratic_falls_without_noise_and_not_below_its_floor():
    loss = -toys.play(toys.quadratic(), uniform(), seeds=4, members=4, rounds=10, round_steps=20)
    curvature = 1 / np.arange(1, toys.DIMENSIONS + 1)
    assert ((loss > 0) & (loss < 0.5 * curvature.sum())).all()


def test_toys_are_searched_by_the_policies_that_swarms_are():
    found = toys.play(
        toys.pbt_toy(), toys.explore(0.5), seeds=4, members=2, rounds=40, round_steps=5
    )
    assert (found > 0.5).all() and (found <= 1.2).all()


SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(8))


@pytest.fixture(scope="module")
def small():
    return search.Case(sj.tasks.spirals(), SPACE, members=4, steps=30, round_steps=10)


@pytest.fixture(scope="module")
def outcome(small):
    return search.Search(small, sj.preset("pbt"))([1])[0]


def test_a_search_spends_its_budget_and_ends_with_the_best_seen(outcome):
    assert len(outcome.curve) == 3 and outcome.curve == sorted(outcome.curve)
    assert outcome.valid == outcome.curve[-1] and 0.2 < outcome.test <= 1.0
    assert 1 <= outcome.lineages <= 4


def test_a_search_is_a_run_without_a_directory(small, outcome, tmp_path):
    result = sj.run(
        task=small.task, space=SPACE, policy="pbt", members=4, budget=120, round_steps=10, seed=1,
        directory=tmp_path / "run",
    )  # fmt: skip
    assert result.best.scores["valid_accuracy"] == pytest.approx(outcome.valid)
    assert result.best.scores["test_accuracy"] == pytest.approx(outcome.test)
    assert result.ensemble.scores["test_accuracy"] == pytest.approx(outcome.ensemble)


def test_rows_reckon_gains_from_paired_outcomes(monkeypatch, tmp_path):
    """The default gains a hundredth on all but halving, to which it loses on one task."""

    def outcomes(task, names, wanted):
        gain = {"swarm": 0.01, "successive_halving": 0.02 if task == "teacher" else 0.0}
        return {
            name: [
                search.Outcome(
                    [0.5, 0.8], 0.8, 0.8 + seed / 100 + gain.get(name, 0.0), 0.8,
                    0.9 + seed / 100, 0.8, 3,
                )
                for seed in wanted
            ]
            for name in names
        }  # fmt: skip

    monkeypatch.setattr(searches, "_outcomes", outcomes)
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    values, raw = searches.searches().measure(True)
    assert values["swarm-random-spirals"] == pytest.approx(0.01)
    assert values["better-than-pbt"] == 3 and values["worse-than-pbt"] == 0
    assert values["better-than-successive_halving"] == 2
    assert values["worse-than-successive_halving"] == 1
    assert raw["spirals"]["outcomes"]["pbt"][0]["valid"] == 0.8
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg", ".png"}
    better, _ = searches.ensembles().measure(True)
    assert better == {"ensemble-better": len(searches.VOTERS)}
    nothing, table = searches.others().measure(False)
    assert nothing == {} and set(table["teacher"]["gains"]) == set(searches.OTHERS)
    nothing, table = searches.breeding().measure(False)
    assert nothing == {} and set(table["teacher"]["gains"]) == set(variants.BREEDING)


def test_what_others_gain_over_the_base_is_told_with_its_sign(monkeypatch):
    worth = {"pbt": 0.5, "genes": 0.75, "shrink": 0.25}

    def outcomes(task, names, wanted):
        each = lambda score: search.Outcome([score], score, score, score, 1 - score, score, 1)  # noqa: E731
        return {name: [each(worth[name]) for _ in wanted] for name in names}

    monkeypatch.setattr(searches, "_outcomes", outcomes)
    bars, table = searches.versus("breeding", "pbt", ("genes", "shrink")).measure(False)
    assert bars == {} and list(table) == list(searches.TASKS)
    quick = searches.versus("breeding", "pbt", ("genes",)).measure(True)[1]
    assert list(quick) == [searches.TASKS[0]]
    gains, together = table["teacher"]["gains"], table["teacher"]["ensemble_gains"]
    assert gains["genes"]["value"] == 0.25 and gains["shrink"]["high"] == -0.25
    assert together["genes"]["low"] == -0.25 and together["shrink"]["value"] == 0.25


def test_every_variant_is_a_policy_of_its_own_and_fits_the_search():
    policies = [sj.preset("swarm"), sj.preset("pbt"), *(m() for m in variants.VARIANTS.values())]
    assert len({policy.name for policy in policies}) == len(policies) == len(variants.VARIANTS) + 2
    # Every link of the default is changed or left out by one of them.
    for link in ("exploit", "softmax", "perturb"):
        assert any(link not in make().name for make in variants.VARIANTS.values())


def test_the_bars_of_the_benchmark():
    bars = {
        bar: str(t) for row in bench_search.ROWS.values() for bar, t in row.targets(False).items()
    }
    assert bars["toy-pbt"] == ">=1.18" and bars["quadratic"] == "<=0.6"
    assert bars["better-than-pbt"] == ">=2" and bars["worse-than-pbt"] == "<=0"
    assert bars["ensemble-better"] == ">=3" and bars["anomaly-delay"] == "<=5"
    assert len(searches.seeds(False)) >= 40 and known.SEEDS >= 40
