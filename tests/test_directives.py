import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_records import every_down, report

from swarmjax import directives, records
from swarmjax.errors import InputError


@pytest.mark.parametrize("record", every_down(), ids=lambda record: type(record).__name__)
def test_every_directive_comes_back_as_it_was(record):
    assert directives.decode_down(directives.encode_down(record)) == record


@pytest.mark.parametrize(
    "changes",
    [
        {"start": "elsewhere"},
        {"steps": -1},
        {"steps": 2**31},
        {"number": "1"},
        {"genes": {"__class__": 1}},
        {"node": "a/b"},
        {"unknown": 0},
        {"version": 0},
    ],
)
def test_what_is_out_of_bounds_is_refused(changes):
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(every_down()[0])) | changes
    with pytest.raises(InputError, match="a directive is refused"):
        directives.decode_down(msgspec.msgpack.encode(plain))


def test_directions_do_not_mix():
    with pytest.raises(InputError):
        directives.decode_down(records.encode_up(report()))
    with pytest.raises(InputError):
        records.decode_up(directives.encode_down(every_down()[0]))


def test_what_could_not_be_read_is_not_sent():
    bad = directives.Stop(node="a", incarnation=1, reason="x" * 257)
    with pytest.raises(InputError, match="to be sent"):
        directives.encode_down(bad)


@given(st.sampled_from(every_down()), st.data())
def test_damaged_directives_are_read_or_refused_in_one_line(record, data):
    blob = bytearray(directives.encode_down(record))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert directives.decode_down(bytes(blob)) is not None
    except InputError as error:
        assert str(error).isprintable()
