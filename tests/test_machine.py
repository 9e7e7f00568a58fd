import json
import os

import pytest

from swarmjax import machine, resources


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "swarmjax" / "machine.json"


def test_what_is_kept_is_recalled_by_name(kept):
    assert machine.recall("chunk a") is None
    machine.keep("chunk a", 8)
    machine.keep("costs", {"rate": 1.5})
    assert machine.recall("chunk a") == 8 and machine.recall("costs") == {"rate": 1.5}
    machine.keep("chunk a", 32)
    assert machine.recall("chunk a") == 32 and machine.recall("costs") == {"rate": 1.5}
    # Nothing half-written is left beside it.
    assert os.listdir(kept.parent) == ["machine.json"]


def test_every_machine_has_facts_of_its_own(kept, monkeypatch):
    for name, value in (("a", 1), ("b", 2)):
        monkeypatch.setattr(resources, "machine_name", lambda name=name: name)
        assert machine.recall("chunk") is None
        machine.keep("chunk", value)
    monkeypatch.setattr(resources, "machine_name", lambda: "a")
    assert machine.recall("chunk") == 1
    assert json.loads(kept.read_text()) == {"a": {"chunk": 1}, "b": {"chunk": 2}}


@pytest.mark.parametrize("held", [b"", b"{", b"[1]", b'{"a": 3}', b"\xff\xfe\x00{"])
def test_what_is_no_record_is_replaced(kept, held):
    kept.parent.mkdir()
    kept.write_bytes(held)
    assert machine.recall("chunk") is None
    machine.keep("chunk", 8)
    assert machine.recall("chunk") == 8


def test_a_place_that_cannot_be_written_is_done_without(closed_directory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed_directory))
    machine.keep("chunk", 8)
    assert machine.recall("chunk") is None and os.listdir(closed_directory) == []


def test_a_place_that_is_a_file_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "swarmjax").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine.keep("chunk", 8)
    assert machine.recall("chunk") is None and (tmp_path / "swarmjax").read_text() == "mine"
