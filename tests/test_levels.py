import numpy as np
import pyarrow as pa
import pytest

from swarmjax import levels


def windows(**changes):
    """Two networks in slot 1, one in slot 0; the first has three windows, of 4, 4 and 2 steps."""
    columns = {
        "round": [1, 1, 2, 1, 3], "member": [1, 1, 1, 0, 1], "birth": [5, 5, 5, 2, 9],
        "step": [4, 8, 10, 4, 3], "steps": [4, 4, 2, 4, 3],
        "train_loss_min": [3.0, 1.0, 2.0, 0.5, 8.0], "train_loss": [4.0, 2.0, 3.0, 1.0, 9.0],
        "train_loss_max": [6.0, 9.0, 4.0, 2.0, 9.5], "train_loss_last": [5.0, 1.5, 2.5, 1.0, 8.5],
        "gradient_norm": [1.0, 1.0, 6.0, 7.0, 0.0], "wall_ns": [10, 10, 30, 10, 40],
    } | changes  # fmt: skip
    kinds = {name: np.int32 for name in ("round", "member", "birth", "step", "steps")}
    kinds["wall_ns"] = np.int64
    return pa.table({n: np.asarray(v, kinds.get(n, np.float32)) for n, v in columns.items()})


def test_neighbours_of_one_network_are_merged_by_hand():
    made = levels.coarsen(windows(), 3)
    assert made.to_pydict() == {
        "round": [1, 2, 3], "member": [0, 1, 1], "birth": [2, 5, 9], "step": [4, 10, 3],
        "steps": [4, 10, 3], "train_loss_min": [0.5, 1.0, 8.0],
        "train_loss": [1.0, 3.0, 9.0],  # (4 x 4 + 2 x 4 + 3 x 2) / 10
        "train_loss_max": [2.0, 9.0, 9.5], "train_loss_last": [1.0, 2.5, 8.5],
        "gradient_norm": [7.0, 2.0, 0.0], "wall_ns": [10, 30, 40],
    }  # fmt: skip
    assert made.schema == windows().schema


def test_a_factor_ends_windows_and_another_network_does():
    made = levels.coarsen(windows(), 2)
    assert made["steps"].to_pylist() == [4, 8, 2, 3]
    assert made["birth"].to_pylist() == [2, 5, 5, 9]


def test_nothing_stays_nothing_and_one_by_one_stays_as_it_was():
    assert levels.coarsen(windows().slice(0, 0), 8).num_rows == 0
    ordered = windows().sort_by([("member", "ascending"), ("round", "ascending")])
    assert levels.coarsen(windows(), 1).equals(ordered)


def test_a_loss_that_is_no_number_is_not_averaged_away():
    made = levels.coarsen(windows(train_loss=[np.nan, 2, 3, 1, 9]), 3)
    assert np.isnan(made["train_loss"].to_numpy()[1]) and made["train_loss"].to_pylist()[0] == 1.0


def test_coarser_twice_is_coarser_at_once():
    rng = np.random.default_rng(0)
    many = 64
    table = pa.table({
        "round": np.repeat(np.arange(8, dtype=np.int32), 8), "member": np.zeros(many, np.int32),
        "birth": np.zeros(many, np.int32), "step": np.arange(1, many + 1, dtype=np.int32),
        "steps": np.ones(many, np.int32),
        **{name: rng.random(many).astype(np.float32) for name in (
            "train_loss_min", "train_loss", "train_loss_max", "train_loss_last", "gradient_norm")},
    })  # fmt: skip
    twice, once = levels.coarsen(levels.coarsen(table, 4), 2), levels.coarsen(table, 8)
    for name in once.column_names:
        np.testing.assert_allclose(twice[name].to_numpy(), once[name].to_numpy(), rtol=1e-6)


def test_quantiles_are_of_the_living_and_finite():
    frame = pa.table({
        "round": np.full(5, 3, np.int32), "alive": [True, True, True, False, True],
        "train_loss": np.asarray([1.0, 2.0, 3.0, 99.0, np.inf], np.float32),
        "valid_f1": np.full(5, np.nan, np.float32),
    })  # fmt: skip
    made = levels.quantiles(frame, ["train_loss", "valid_f1"]).to_pylist()
    assert made[0]["metric"] == "train_loss" and (made[0]["round"], made[0]["members"]) == (3, 3)
    assert [made[0][f"q{q:02d}"] for q in (0, 25, 50, 75, 100)] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert made[0]["q05"] == pytest.approx(1.1)
    assert made[1]["members"] == 0 and np.isnan(made[1]["q50"])
