import numpy as np

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


def test_scaling_has_no_bars():
    assert all(row.targets(False) == {} for row in bench_scaling.ROWS.values())
