"""The dashboard's benchmark: what it makes of what pages saw, without a browser."""

import math
import random
from types import SimpleNamespace

import pytest

from paper import bench_dashboard, page_asked, page_costs, page_live
from swarmjax import steering


def test_a_round_that_was_jumped_over_is_one_refresh_less():
    written = {6: 100.0, 7: 100.5, 8: 101.0, 9: 101.5}
    seen = [
        {"5": 90.0, "6": 100.2, "7": math.inf, "8": 101.4, "9": 101.6},
        {"6": 100.1, "7": 100.6, "8": 101.1, "9": 101.6},
    ]
    found, raw = page_live._told(written, seen, ["console: no"])
    assert found["live refreshes a second"] == 3 / (4 * page_live.PACE)
    assert found["live write-to-pixel seconds, p95"] == pytest.approx(0.2 + 0.7 * 0.2)
    assert found["live errors and external requests"] == 1
    assert raw["rounds"] == 4 and len(raw["delays"]) == 7


def test_every_row_has_its_bars_quick_or_not():
    bars = [bar for row in bench_dashboard.ROWS.values() for bar in row.targets(False)]
    assert len(set(bars)) == len(bars) == 12
    for row in bench_dashboard.ROWS.values():
        assert row.targets(True) == row.targets(False)


def test_a_pace_is_that_between_the_first_and_the_last_round_seen_to_end(monkeypatch):
    clock = [0.0]

    def tick():
        clock[0] += 1.0

    # A round of 100 steps ends every other second; the first count may be of any age.
    reader = SimpleNamespace(status=lambda: SimpleNamespace(done=100 * int((clock[0] + 1) // 2)))
    reader.close = lambda: None
    monkeypatch.setattr(page_costs.stored, "open_run", lambda directory: reader)
    monkeypatch.setattr(page_costs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert page_costs._pace(None, tick, 12.0) == 50.0


def test_random_directives_are_of_every_kind_for_networks_there_and_not():
    chance = random.Random(0)
    made = [page_asked._any(chance, [4, 5, 9]) for _ in range(400)]
    assert {steering.kind_of(steering.encode(each)) for each in made} == {
        "boost", "freeze", "thaw", "pin", "unpin", "clone", "breed", "set", "kill", "turn", "note",
        "undo",
    }  # fmt: skip
    named = {(m.slot, m.birth) for each in made if (m := getattr(each, "member", None))}
    assert {(0, 4), (1, 5), (2, 9), (3, 10**6), (0, 10**6)} <= named
