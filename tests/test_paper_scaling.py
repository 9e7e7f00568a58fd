import numpy as np
import pytest

from paper import bench_scaling, scaling


def test_a_made_up_frame_is_one_of_a_swarm_in_mid_run():
    frame = scaling.made_up_frame(24)
    assert frame.alive.all() and (frame.total_steps == 150).all() and frame.round == 3
    assert all(np.isfinite(values).all() for values in frame.metrics.values())
    assert not np.array_equal(frame.loss, scaling.made_up_frame(24, seed=1).loss)


def test_a_decision_spends_the_round_and_a_stored_round_grows_with_the_members():
    assert scaling.prepare("decide", 24)() == 24 * 50
    few, many = (scaling.prepare("write", n)()["bytes"] for n in (24, 2400))
    assert few < many < 100 * few


@pytest.mark.parametrize("name", scaling.MATRICES)
def test_a_matrix_of_distances_is_that_of_a_whole_swarm(name):
    frame = scaling.made_up_frame(12, described=(32, 10))
    apart = np.asarray(scaling.MATRICES[name](frame))
    assert apart.shape == (12, 12) and not apart.diagonal().any()
    assert scaling.prepare(name, 12)() == pytest.approx(apart.mean(), rel=1e-5)
    assert 0 < apart.mean() < (3 if name == "architecture" else 1)


def test_every_matrix_has_a_bar_at_the_largest_swarm(monkeypatch):
    monkeypatch.setattr(scaling, "COMPARED", (10, 20))
    monkeypatch.setattr(scaling, "MATRICES", {"cka": scaling.MATRICES["cka"]})
    monkeypatch.setattr(scaling, "_REPEATS", 2)
    row = scaling.similarity()
    values, raw = row.measure(True)
    assert {name: str(target) for name, target in row.targets(True).items()} == {
        "similarity-cka-20": "<=1"
    }
    assert values == {"similarity-cka-20": raw[20]["cka"]["median"]} and set(raw) == {10, 20}
    assert len(raw[10]["cka"]["warm"]) == len(raw[10]["cka"]["cpu"]) == 2
    assert all(seconds > 0 for seconds in raw[10]["cka"]["warm"])


def test_only_matrices_have_bars():
    targets = {name: row.targets(False) for name, row in bench_scaling.ROWS.items()}
    assert set(targets.pop("similarity")) == {f"similarity-{n}-1000" for n in scaling.MATRICES}
    assert not any(targets.values())
