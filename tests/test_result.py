import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax.result import Best, main_metric, stored_best


def best(variables):
    scores = {"valid_accuracy": 0.5}
    return Best(
        None, variables["params"], variables, {"width": 4}, scores, member=2, birth=9, round=3
    )


def test_parameters_go_by_their_paths_and_other_collections_by_their_names():
    kernel, mean = np.ones((2, 3)), np.zeros(3)
    arrays, record = stored_best(
        best({"params": {"Dense_0": {"kernel": kernel}}, "batch_stats": {"norm": {"mean": mean}}})
    )
    assert set(arrays) == {"Dense_0/kernel", "batch_stats/norm/mean"}
    assert arrays["Dense_0/kernel"] is kernel
    origin = {"member": 2, "birth": 9, "round": 3}
    assert record == {"genome": {"width": 4}, "scores": {"valid_accuracy": 0.5}} | origin


def test_the_main_metric_is_what_members_are_ranked_by():
    x = np.random.default_rng(0).normal(size=(90, 2))
    labels, reals = (x[:, 0] > 0).astype(int), x[:, 0]
    f1 = {"f1": lambda outputs, y: outputs.sum()}
    assert main_metric(sj.tasks.arrays(x, labels)) == "valid_accuracy"
    assert main_metric(sj.tasks.arrays(x, reals)) == "valid_loss"
    assert main_metric(sj.tasks.arrays(x, labels, metrics=f1)) == "valid_loss"
    assert main_metric(sj.tasks.arrays(x, labels, metrics={})) == "valid_loss"


def test_any_network_is_taken_out_of_a_run_or_its_replay(tmp_path):
    asked = sj.Experiment(task="spirals", members=3, budget=30, directory=tmp_path / "run")
    result, data = sj.run(asked), sj.tasks.spirals().valid
    trainer, frame = sj.replay(asked)
    assert result.best.genome == sj.take_out(trainer, frame, result.best.member).genome
    for slot in range(3):
        taken = sj.take_out(result.trainer, result.frame, slot)
        again = sj.take_out(trainer, frame, slot)
        jax.tree.map(np.testing.assert_array_equal, taken.variables, again.variables)
        assert (taken.member, taken.birth, taken.round) == (slot, slot, 1)
        outputs = again.model.apply(again.variables, data.x)
        assert np.mean(outputs.argmax(1) == data.y) == pytest.approx(taken.scores["valid_accuracy"])
        # Without padding: as many units as the gene says.
        assert taken.params["Dense_0"]["kernel"].shape == (2, taken.genome["width"])
    for slot in (-1, 3):
        with pytest.raises(sj.InputError, match=f"slot {slot} is none of the swarm's, 0 to 2"):
            sj.take_out(trainer, frame, slot)
