import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_records import MARK, STAMP, announce, every_up, report

from swarmjax import records
from swarmjax.errors import InputError, one_line

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


def refused(blob):
    with pytest.raises(InputError) as caught:
        records.decode_up(blob)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 300
    return text


def changed(record, **changes):
    """The bytes of a record with fields that it could not be made with."""
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(record))
    return msgspec.msgpack.encode(plain | changes)


@pytest.mark.parametrize("record", every_up(), ids=lambda record: type(record).__name__)
def test_every_record_comes_back_as_it_was(record):
    assert records.decode_up(records.encode_up(record)) == record


def test_a_loss_may_be_no_number():
    again = records.decode_up(records.encode_up(report(loss=math.nan, finite=False)))
    assert math.isnan(again.loss)


def test_a_record_knows_its_stamp():
    assert report().stamp._asdict() == STAMP
    assert report(clock_offset=-3).stamp.corrected == STAMP["wall_ns"] - 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node": "../evil"}, "node"),
        ({"node": "a\n"}, "node"),
        ({"node": "a" * 65}, "node"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": 1.5}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"incarnation": 2**63}, "incarnation"),
        ({"incarnation": -1}, "incarnation"),
        ({"clock_bound": -2}, "clock_bound"),
        ({"wall_ns": 2**63}, "wall_ns"),
        ({"version": 2}, "version"),
        ({"type": "grant"}, "type"),
        ({"type": None}, "type"),
        ({"extra": 1}, "extra"),
        ({"genes": {"a.b": 1}}, "genes"),
        ({"genes": {"x": "y" * 65}}, "genes"),
        ({"genes": {"x": [1]}}, "genes"),
        ({"genes": {f"g{i}": 1 for i in range(65)}}, "genes"),
        ({"weights": {"/etc/passwd": [1]}}, "weights"),
        ({"weights": {"w": [1] * 9}}, "weights"),
        ({"weights": {"w": [-1]}}, "weights"),
        ({"connections": [[0]]}, "connections"),
        ({"cost": math.nan}, "cost"),
        ({"layers": [["0", "Linear"]]}, "layers"),
    ],
)
def test_what_is_out_of_bounds_is_refused(changes, reason):
    assert reason in refused(changed(announce(), **changes))


def test_metrics_are_validation_metrics():
    assert "metrics" in refused(changed(report(), metrics={"accuracy": 1.0}))
    assert "metrics" in refused(changed(report(), metrics={"valid_x": "high"}))


def test_a_record_without_a_field_is_refused():
    plain = msgspec.msgpack.decode(records.encode_up(report()))
    del plain["loss"]
    assert "loss" in refused(msgspec.msgpack.encode(plain))


def test_too_many_bytes_are_refused_before_they_are_read():
    assert "more than" in refused(bytes(records.LARGEST + 1))


def test_announced_lengths_take_no_memory():
    for header in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"):
        refused(header)
    refused(b"\x91" * 100_000)


def test_what_could_not_be_read_is_not_sent():
    with pytest.raises(InputError, match="to be sent"):
        records.encode_up(announce(node="a b"))


@settings(max_examples=400)
@given(st.binary(max_size=200) | values.map(msgspec.msgpack.encode))
def test_strange_bytes_are_refused_in_one_line(blob):
    refused(blob)


GOOD = [records.encode_up(record) for record in every_up()]


@settings(max_examples=400)
@given(st.sampled_from(GOOD), st.data())
def test_damaged_records_are_read_or_refused_in_one_line(good, data):
    blob = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = records.decode_up(bytes(blob))
    except InputError as error:
        assert str(error).isprintable()
    else:
        assert records.decode_up(records.encode_up(record)) is not None


@settings(max_examples=200)
@given(st.sampled_from(sorted(msgspec.structs.asdict(report()))), values)
def test_any_value_in_any_field_is_read_or_refused(name, value):
    try:
        records.decode_up(changed(report(), **{name: value}))
    except InputError as error:
        assert str(error).isprintable()


def test_texts_from_outside_become_one_short_line():
    assert one_line("a\n b\x1b[31m\u202e") == "a b\\x1b[31m\\u202e"
    assert len(one_line("x" * 10**6)) == 200
    assert one_line("x" * 200) == "x" * 200
    assert MARK["node"] in one_line(MARK)


def test_channels_are_named_after_swarm_and_node():
    assert records.channel_up("digits") == "swarmjax.digits.up"
    assert records.channel_down("digits", "torch-0") == "swarmjax.digits.down.torch-0"


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", "a" * 65, "a\n", "ä", None, 5])
def test_names_are_checked(name):
    with pytest.raises(InputError, match="must be 1 to 64") as caught:
        records.channel_down("digits", name)
    assert str(caught.value).isprintable()
