import jax
import numpy as np
import pyarrow as pa
import pytest

from swarmjax import space
from swarmjax.policy import keep
from swarmjax.telemetry import attributed, frame_table, plan_from_table, plan_table

nan = np.nan


def odd_plan(frame):
    return jax.device_get(keep(frame))._replace(
        parent=np.array([1, 1, 0], np.int32),
        steps=np.array([2**31 - 1, 0, 7], np.int32),
        fresh=np.array([True, False, True]),
        genome=keep(frame).genome
        | {
            "momentum": np.array([-0.0, nan, 1e-45], np.float32),
        },
    )


def test_plan_table_round_trips_bit_for_bit(frames):
    plan = odd_plan(frames([0.1, nan, 0.3]))
    again = plan_from_table(plan_table(plan))
    assert jax.tree.structure(again) == jax.tree.structure(plan)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(plan), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == np.asarray(b).tobytes()


def test_genes_may_bear_the_names_of_one_another_but_never_of_columns(frames):
    plan = odd_plan(frames([0.1, 0.2, 0.3]))
    columns = plan_table(plan).column_names
    assert [name for name in columns if name.startswith("gene.")] == [
        f"gene.{name}" for name in plan.genome
    ]
    assert len(set(columns)) == len(columns)


def test_frame_table_by_hand(frames):
    frame = frames([0.25, nan], alive=[True, False], round=3, seconds=[0.5, nan])
    plan = keep(frame)._replace(parent=np.array([0, 0], np.int32))
    table = frame_table(plan, frame, time=12.5)
    rows = table.to_pylist()
    assert [row["member"] for row in rows] == [0, 1]
    assert [row["parent"] for row in rows] == [0, 0]
    assert [row["alive"] for row in rows] == [True, False]
    assert {row["round"] for row in rows} == {3}
    assert {row["time"] for row in rows} == {12.5}
    assert rows[0]["valid_accuracy"] == 0.25
    assert (rows[0]["parameters"], rows[0]["bytes"], rows[0]["seconds"]) == (1000, 12_000.0, 0.5)
    assert np.isnan(rows[1]["valid_accuracy"])
    for member, row in enumerate(rows):
        for name, value in frame.space.values(frame.genome, member).items():
            assert row[name] == value


def test_frame_table_types(frames):
    table = frame_table(keep(frames([0.5])), frames([0.5]), time=0.0)
    assert table.schema.field("birth").type == pa.int32()
    for name in ("train_loss", "bytes", "seconds"):
        assert table.schema.field(name).type == pa.float32()
    assert table.schema.field("parameters").type == pa.int32()
    assert pa.types.is_dictionary(table.schema.field("activation").type)
    assert table.schema.field("width").type == pa.int64()


@pytest.mark.parametrize("length", [0, 1, 8, 9, 17])
def test_booleans_and_numbers_of_every_length_are_stored_as_they_are(frames, length):
    rng = np.random.default_rng(length)
    plan = keep(frames(np.zeros(length, np.float32)))
    plan = plan._replace(fresh=rng.random(length) < 0.5, steps=rng.integers(0, 9, 2 * length)[::2])
    table = plan_table(plan)
    table.validate(full=True)
    assert table["fresh"].to_pylist() == plan.fresh.tolist()
    assert table["steps"].to_pylist() == plan.steps.tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((True, False), [True, False]),
        ((0.5, 1.5), [0.5, 1.5]),
        ((1, 0.5, "none"), ["1", "0.5"]),
        (("<b>", "'; --"), ["<b>", "'; --"]),
        (("größer", "…", ""), ["größer", "…"]),
    ],
)
def test_options_of_every_kind(frames, options, expected):
    frame = frames([0.1, 0.2], space=space.Space(x=space.choice(*options)))
    frame = frame._replace(genome={"x": np.array([0, 1], np.int32)})
    assert frame_table(keep(frame), frame, time=0.0)["x"].to_pylist() == expected


def test_what_the_process_used_is_shared_out():
    """By time of steps, memory by bytes; a round of which no usage is known, and an idle one."""
    frames = pa.table({
        "round": np.asarray([1, 1, 2, 2, 3, 3], np.int32), "member": np.asarray([0, 1] * 3),
        "steps": np.asarray([10, 10, 0, 0, 1, 1]), "bytes": np.full(6, 5.0),
        "seconds": np.asarray([0.3, 0.1, 0.3, 0.1, 1.0, nan]),
    })  # fmt: skip
    usage = pa.table({
        "round": np.asarray([1, 2], np.int32), "seconds": [4.0, 1.0], "cpu": [2.0, 1.0],
        "gpu": [0.5, nan], "memory": [100.0, 200.0], "gpu_memory": [nan, 8.0],
    })  # fmt: skip
    made = attributed(frames, usage).to_pydict()
    assert made["cpu_seconds"][:4] == pytest.approx([6.0, 2.0, 0.0, 0.0])
    assert made["gpu_seconds"][:2] == pytest.approx([1.5, 0.5])
    assert made["memory"][:4] == pytest.approx([50.0, 50.0, 100.0, 100.0])
    assert made["gpu_memory"][2:4] == pytest.approx([4.0, 4.0])
    for name in ("cpu_seconds", "gpu_seconds", "memory", "gpu_memory"):
        assert np.isnan(made[name][4:]).all()
    nobody = attributed(frames, usage.slice(0, 0))
    assert np.isnan(nobody["cpu_seconds"].to_numpy()).all()
