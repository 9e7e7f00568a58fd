import numpy as np
import pyarrow as pa
import pytest

from swarmjax import segments
from swarmjax.types import InputError


def rows(round, members=3, scale=1.0):
    return pa.table({
        "round": np.full(members, round, np.int32), "member": np.arange(members, dtype=np.int32),
        "step": np.full(members, 10 * round, np.int32),
        "loss": (scale * round + np.arange(members)).astype(np.float32),
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for round in range(1, 8):
        segments.write(tmp_path / "s", round, round, rows(round))
    return tmp_path / "s"


def names(folder):
    return [segment.path.name for segment in segments.listed(folder)]


def test_rows_read_back_by_round_and_member(folder):
    everything = segments.read(folder)
    assert everything.num_rows == 21 and everything.schema == rows(1).schema
    some = segments.read(folder, 3, [2, 0], until=5).to_pydict()
    assert some["round"] == [3, 3, 4, 4] and some["member"] == [0, 2, 0, 2]
    assert some["loss"] == [3.0, 5.0, 4.0, 6.0]


def test_where_nothing_is_stored_there_is_none(folder, tmp_path):
    assert segments.read(tmp_path / "nowhere") is None
    assert segments.read(folder, 8) is None
    assert segments.read(folder, 1, [77]).num_rows == 0


def test_put_together_they_hold_the_same_by_member(folder):
    before, seen = segments.read(folder), []
    assert segments.compact(folder, 3, lambda *args: seen.append(args))
    assert names(folder) == ["r000001-000003.parquet", "r000004-000006.parquet", "r000007.parquet"]
    assert [(first, last, table.num_rows) for first, last, table in seen] == [(1, 3, 9), (4, 6, 9)]
    block = segments.read(folder, until=4).to_pydict()
    assert block["member"] == [0, 0, 0, 1, 1, 1, 2, 2, 2] and block["round"] == [1, 2, 3] * 3
    keys = [("round", "ascending"), ("member", "ascending")]
    assert segments.read(folder).sort_by(keys).equals(before.sort_by(keys))
    assert not segments.compact(folder, 3)


def test_what_a_killed_process_left_is_not_read_twice(folder):
    segments.compact(folder, 7)
    segments.write(folder, 3, 3, rows(3))
    (folder / ".r000008.parquet.part").write_bytes(b"half")
    (folder / "r8.parquet").write_bytes(b"no segment")
    assert names(folder) == ["r000001-000007.parquet"]
    assert segments.read(folder).num_rows == 21


def test_putting_together_sweeps_up_what_is_covered(folder):
    segments.compact(folder, 7)
    segments.write(folder, 3, 3, rows(3))
    assert not segments.compact(folder, 7)
    assert [path.name for path in folder.iterdir()] == ["r000001-000007.parquet"]


def test_rounds_after_one_are_forgotten(folder):
    segments.compact(folder, 3)
    segments.rewind(folder, 5)
    assert names(folder) == ["r000001-000003.parquet", "r000004.parquet", "r000005.parquet"]
    assert sorted(set(segments.read(folder)["round"].to_pylist())) == [1, 2, 3, 4, 5]
    segments.write(folder, 6, 6, rows(6, scale=2.0))
    assert segments.read(folder, 6)["loss"].to_pylist() == [12.0, 13.0, 14.0]
    segments.compact(folder, 3)
    assert names(folder) == ["r000001-000003.parquet", "r000004-000006.parquet"]
    segments.rewind(folder, 1)
    assert names(folder) == ["r000001.parquet"]
    segments.rewind(folder, 0)
    assert names(folder) == []


def test_what_will_be_made_anew_is_cut_whole(folder):
    segments.compact(folder, 3)
    segments.cut(folder, 5, lambda first: first == 4)
    assert names(folder) == ["r000001-000003.parquet"]
    segments.cut(folder, 2, lambda first: False)
    assert names(folder) == ["r000001-000002.parquet"]
    assert sorted(set(segments.read(folder)["round"].to_pylist())) == [1, 2]


def test_the_oldest_are_thinned_but_never_single_rounds(folder):
    segments.compact(folder, 3)
    size = sum(segment.path.stat().st_size for segment in segments.listed(folder))
    segments.thin(folder, size)
    assert len(names(folder)) == 3
    segments.thin(folder, size - 1)
    assert names(folder) == ["r000004-000006.parquet", "r000007.parquet"]
    segments.thin(folder, 0)
    assert names(folder) == ["r000007.parquet"]


def test_a_reader_that_is_overtaken_looks_again(folder, monkeypatch):
    """Between its list and its reading, everything is put together."""
    read, tries = segments.pq.read_table, []

    def late(path, **how):
        tries.append(path.name)
        if len(tries) == 1:
            monkeypatch.setattr(segments.pq, "read_table", read)
            segments.compact(folder, 7)
            monkeypatch.setattr(segments.pq, "read_table", late)
        return read(path, **how)

    monkeypatch.setattr(segments.pq, "read_table", late)
    assert segments.read(folder).num_rows == 21
    assert tries == ["r000001.parquet", "r000001-000007.parquet"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    segments.replace(path, b"one")
    segments.replace(path, b"two")
    assert path.read_bytes() == b"two" and [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(FileNotFoundError):
        segments.replace(tmp_path / "gone" / "a", b"three")


def test_a_damaged_segment_is_refused_and_one_in_the_place_of_another(tmp_path):
    for folder in ("windows", "steps"):
        for round in (1, 2):
            segments.write(tmp_path / folder, round, round, rows(round))
    path = tmp_path / "windows" / "r000002.parquet"
    whole = path.read_bytes()
    for other in ("windows/r000001.parquet", "steps/r000002.parquet"):
        path.write_bytes((tmp_path / other).read_bytes())
        with pytest.raises(InputError, match=f"r000002.parquet is damaged: it was {other}"):
            segments.read(tmp_path / "windows")
    refused = 0
    for at in range(4, len(whole) - 8, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            assert segments.read(tmp_path / "windows") == segments.read(tmp_path / "steps")
        except InputError:
            refused += 1
    assert refused
