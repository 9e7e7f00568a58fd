import sqlite3

import numpy as np
import pytest
from node_records import MARK, STAMP, announce, every_up, report

from swarmjax import records, windows
from swarmjax.clock import Stamp
from swarmjax.errors import InputError
from swarmjax.inbox import Inbox


@pytest.fixture
def inbox(tmp_path):
    made = Inbox(tmp_path / "inbox.db")
    yield made
    made.close()


def rows(node, sequence, times, offset=0, **more):
    made = [
        windows.window([1.0], [], round=1, step=i, seconds=1.0, usage={},
                       stamp=Stamp(at, at, offset, 1)) | more
        for i, at in enumerate(times)
    ]  # fmt: skip
    mark = MARK | STAMP | {"node": node, "sequence": sequence}
    return records.encode_up(records.Windows(**mark, table=windows.write_windows(made)))


def test_every_record_is_kept_once(inbox):
    blobs = [records.encode_up(report(sequence=i)) for i in range(5)]
    assert [r.sequence for r in inbox.take([*blobs[:3], blobs[1]])] == [0, 1, 2]
    # Out of order, and again.
    assert [r.sequence for r in inbox.take([blobs[4], *blobs, blobs[0]])] == [4, 3]
    assert inbox.repeated == 6
    assert [r.sequence for _, r in inbox.records()] == [0, 1, 2, 4, 3]


def test_nodes_and_incarnations_are_told_apart(inbox):
    blobs = [
        records.encode_up(report(node=node, incarnation=incarnation))
        for node in ("a", "b")
        for incarnation in (1, 2)
    ]
    assert len(inbox.take(blobs * 2)) == 4


def test_what_is_kept_is_there_for_the_next_process(tmp_path):
    first, blob = Inbox(tmp_path / "i"), records.encode_up(announce())
    first.take([blob])
    first.close()
    second = Inbox(tmp_path / "i")
    assert second.take([blob]) == []
    assert [record for _, record in second.records()] == [announce()]
    assert list(second.records(since=1)) == []
    second.close()


def test_beats_are_not_kept_and_weights_without_their_bytes(inbox):
    blobs = [records.encode_up(r) for r in every_up() if not isinstance(r, records.Windows)]
    changed = [b.replace(b"\xa8sequence\x00", b"\xa8sequence" + bytes([i]))
               for i, b in enumerate(blobs)]  # fmt: skip
    assert len(inbox.take(changed)) == 5
    assert [type(r).__name__ for _, r in inbox.records()] == ["Announce", "Report", "Leave"]
    # A beat is no part of the sequence: it never counts as a repetition.
    assert [type(r) for r in inbox.take(changed)] == [records.Beat]


def test_what_is_malformed_is_refused_and_counted_by_reason(inbox):
    mark = MARK | STAMP
    broken = records.encode_up(records.Windows(**mark, table=b"no table"))
    good = records.encode_up(report(sequence=1))
    assert [r.sequence for r in inbox.take([b"", b"\xff", b"", broken, good])] == [1]
    assert inbox.refused == 4
    reasons = inbox.reasons()
    assert sum(reasons.values()) == 4
    assert max(reasons.values()) == 2
    assert any("a table" in reason for reason in reasons)
    inbox.refuse("gene x is not in the space")
    assert inbox.reasons()["gene x is not in the space"] == 1


def test_made_up_reasons_fill_no_disk(inbox):
    for i in range(300):
        inbox.refuse(f"reason {i}")
    reasons = inbox.reasons()
    assert len(reasons) == 201
    assert reasons["others"] == 100


def test_windows_of_all_nodes_are_in_order_of_corrected_time(inbox):
    # b's clock is 1000 ahead of the controller's.
    inbox.take([rows("b", 0, [1010, 1030], -1000, valid_f1=0.5), rows("a", 0, [20, 40])])
    table = inbox.windows()
    assert table["time_ns"].to_pylist() == [10, 20, 30, 40]
    assert table["node"].to_pylist() == ["b", "a", "b", "a"]
    assert table["wall_ns"].to_pylist() == [1010, 20, 1030, 40]
    assert table["valid_f1"].to_pylist() == [0.5, None, 0.5, None]
    assert inbox.windows(since=1)["node"].to_pylist() == ["a", "a"]
    with pytest.raises(InputError, match="no windows"):
        inbox.windows(since=2)
    assert np.isnan(table["gradient_norm"].to_numpy()).all()


def test_a_failing_disk_is_an_error_and_keeps_nothing_half(inbox):
    inbox._database.execute("PRAGMA max_page_count = 8")
    blobs = [records.encode_up(report(sequence=i)) for i in range(200)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        inbox.take(blobs)
    assert list(inbox.records()) == []


def test_what_is_no_inbox_is_refused(tmp_path):
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(InputError, match="cannot be used for records"):
        Inbox(tmp_path / "text")
