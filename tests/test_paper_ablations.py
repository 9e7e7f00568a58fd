import pytest

from paper import bench_ablations, layouts, side_engine, swarms, throughput
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


def test_ablations_have_no_bars():
    assert all(row.targets(False) == {} for row in bench_ablations.ROWS.values())
    assert {"links", "allocators", "diversity", "breeding", "layouts"} == set(bench_ablations.ROWS)
