import contextlib

import jax
import numpy as np
import pytest
from scipy.special import softmax

import swarmjax as sj
from swarmjax import ensemble, stacks
from swarmjax.experiment import check
from swarmjax.result import main_metric

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1), depth=sj.structure(1, 2), width=sj.structure(8, 16)
)


def classes(y, outputs=2):
    n = len(y)
    x = np.zeros((n, 1), np.float32)
    return sj.tasks.task("made", (x, y), (x, y), outputs=outputs, batch=1)


def chances(*right):
    """Probabilities `[n, 2]` of classes 0 and 1 that give class 1 these chances."""
    p = np.asarray(right, np.float32)
    return np.stack([1 - p, p], axis=-1)


def test_voters_that_err_apart_are_chosen_over_the_best_two():
    """The second is nearly as good as the first, but wrong where it is; the third is not."""
    task = classes(np.asarray([1, 1, 1, 1]))
    votes = np.stack([chances(0.9, 0.9, 0.9, 0.2), chances(0.9, 0.9, 0.6, 0.2),
                      chances(0.4, 0.3, 0.9, 0.9)])  # fmt: skip
    assert ensemble.select(task, votes, 2) == [0, 2]


def test_one_vote_is_kept_where_more_do_not_help():
    task = classes(np.asarray([1, 0]))
    votes = np.stack([chances(0.1, 0.9), chances(0.9, 0.1)])
    assert ensemble.select(task, votes, 5) == [1]
    assert ensemble.select(task, votes[::-1], 1) == [0]


def test_greedy_selection_agrees_with_trying_all_second_votes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    votes = softmax(rng.normal(size=(6, 40, 3)) + 1.5 * np.eye(3)[y], axis=-1).astype(np.float32)
    task = classes(y, outputs=3)

    def value(chosen):
        mean = votes[list(chosen)].mean(axis=0)
        loss = -np.log(mean[np.arange(40), y]).mean()
        return (mean.argmax(1) == y).mean() - 1e-4 * loss / (1 + loss)

    first = max(range(6), key=lambda i: value([i]))
    second = max(range(6), key=lambda i: value([first, i]))
    expected = [first, second] if value([first, second]) > value([first]) else [first]
    assert ensemble.select(task, votes, 2) == expected


def test_regressions_are_averaged_and_judged_by_the_loss():
    y = np.asarray([[0.0], [2.0]], np.float32)
    x = np.zeros((2, 1), np.float32)
    task = sj.tasks.task("made", (x, y), (x, y), batch=1)
    assert main_metric(task) == "valid_loss"
    votes = np.asarray([[[0.3], [2.3]], [[-0.3], [1.6]], [[5.0], [5.0]]], np.float32)
    assert ensemble.select(task, votes, 2) == [0, 1]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    policy = sj.chain(sj.exploit(fraction=0.5), sj.softmax(), sj.perturb())
    return sj.run(
        task="spirals", space=SPACE, policy=policy, members=12, budget=12 * 120, round_steps=30,
        directory=tmp_path_factory.mktemp("run") / "spirals", seed=3, ensemble=4,
    )  # fmt: skip


def test_the_scores_are_those_of_the_mean_prediction(result):
    found, task = result.ensemble, sj.tasks.spirals()
    assert 1 <= len(found.members) <= 4 and set(found.members) == set(found.networks)
    for split in ("valid", "test"):
        x, y = getattr(task, split)
        each = {
            slot: jax.nn.softmax(best.model.apply({"params": best.params}, x))
            for slot, best in found.networks.items()
        }
        mean = np.mean([each[slot] for slot in found.members], axis=0)
        assert found.scores[f"{split}_accuracy"] == pytest.approx((mean.argmax(1) == y).mean())
        loss = -np.log(mean[np.arange(len(y)), y]).mean()
        assert found.scores[f"{split}_loss"] == pytest.approx(loss, rel=1e-4)


def test_what_an_ensemble_costs(result):
    found, frame = result.ensemble, result.frame
    slots = list(found.networks)
    assert found.parameters == frame.parameters[slots].sum()
    best = np.argmax(frame.metrics["valid_accuracy"] - 1e-6 * frame.metrics["valid_loss"])
    assert found.cost == pytest.approx(frame.cost[slots].sum() / frame.cost[best])


def test_an_ensemble_is_no_worse_on_validation_than_its_best_network(result):
    alive = result.frame.metrics["valid_accuracy"][result.frame.alive]
    assert result.ensemble.scores["valid_accuracy"] >= alive.max() - 1e-6
    assert result.soup.scores["valid_accuracy"] >= alive.max() - 1e-6


def test_candidates_are_copied_a_lane_at_a_time(result, monkeypatch):
    """Twelve candidates, up to four voters and up to twelve relatives, of a lane or two each."""
    copies, take, trainer, frame = [], stacks.take, result.trainer, result.frame
    monkeypatch.setattr(
        stacks, "take", lambda *given, **how: copies.append(1) or take(*given, **how)
    )
    setup = check(sj.Experiment(task="spirals", space=SPACE))
    again = ensemble.choose_ensemble(setup, trainer, frame, 4)
    assert (again.members, again.scores) == (result.ensemble.members, result.ensemble.scores)
    soup = ensemble.choose_soup(setup, trainer, frame)
    assert (soup.members, soup.scores) == (result.soup.members, result.soup.scores)
    jax.tree.map(np.testing.assert_array_equal, soup.variables, result.soup.variables)
    containers = len({trainer.network(slot, {}).container for slot in range(12)})
    assert 0 < len(copies) - 12 <= 3 * containers


def test_a_soup_is_the_mean_of_relatives(result):
    soup, frame = result.soup, result.frame
    assert len({frame.lineage[slot] for slot in soup.members}) == 1
    shapes = {tuple(frame.genome[n][slot] for n in ("depth", "width")) for slot in soup.members}
    assert len(shapes) == 1
    networks = [result.trainer.network(slot, frame.genome) for slot in soup.members]
    kernels = [n.member.variables["params"]["Dense_0"]["kernel"] for n in networks]
    mean = np.mean(kernels, axis=0)
    shape = soup.variables["params"]["Dense_0"]["kernel"].shape
    np.testing.assert_allclose(
        soup.variables["params"]["Dense_0"]["kernel"], mean[: shape[0], : shape[1]], atol=1e-6
    )
    x, y = sj.tasks.spirals().test
    model = sj.MLP(3, len(soup.variables["params"]) - 1, shape[1])
    right = (model.apply(soup.variables, x).argmax(1) == y).mean()
    assert soup.scores["test_accuracy"] == pytest.approx(right)


def test_both_are_written_down_and_told_in_a_line(result):
    with contextlib.closing(sj.open_run(result.directory)) as reader:
        told = {event.kind: event.text for event in reader.events()}
    assert told["ensemble"] == str(result.ensemble) and "votes of" in told["ensemble"]
    assert told["soup"] == str(result.soup) and "valid_accuracy" in told["soup"]


def test_none_is_made_where_none_is_asked_for(tmp_path):
    result = sj.run(
        task="spirals", space=SPACE, members=2, budget=4, directory=tmp_path / "run", ensemble=0
    )
    assert result.ensemble is None and result.soup is None
    with pytest.raises(sj.InputError, match="ensemble must be a whole number >= 0, got -1"):
        sj.run(task="spirals", space=SPACE, ensemble=-1)
