import msgspec
import pytest
from directive_examples import ALL
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import steering
from swarmjax.errors import InputError
from swarmjax.steering import Boost, Kill, Member, Set, Turn, Undo


@pytest.mark.parametrize("directive", ALL, ids=lambda directive: type(directive).__name__)
def test_every_directive_comes_back_as_it_was(directive):
    assert steering.decode(steering.encode(directive)) == directive


def test_every_kind_is_among_the_examples():
    assert {type(directive) for directive in ALL} == set(steering.Directive.__args__)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"kind":"vanish"}',
        '{"kind":"kill"}',
        '{"kind":"kill","member":17}',
        '{"kind":"kill","member":{"slot":-1,"birth":0}}',
        '{"kind":"kill","member":{"slot":true,"birth":0}}',
        '{"kind":"kill","member":{"slot":1,"birth":0},"force":true}',
        '{"kind":"boost","member":{"slot":1,"birth":0},"factor":17}',
        '{"kind":"boost","member":{"slot":1,"birth":0},"factor":1e999}',
        '{"kind":"turn","values":{}}',
        '{"kind":"turn","values":{"goal.accuracy":NaN}}',
        '{"kind":"turn","values":{"<script>":1}}',
        '{"kind":"add","count":0}',
        '{"kind":"note","text":""}',
        '{"kind":"undo","id":9223372036854775808}',
        '{"kind":"set","member":{"slot":1,"birth":0},"genes":{"a":[1]}}',
        b"\xff\xfe",
        "[" * 8000,
        " " * 10_000,
    ],
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(InputError, match="a directive is refused") as error:
        steering.decode(text)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "directive",
    [
        Boost(Member(1, 1), float("inf")),
        Kill(Member(-1, 0)),
        Turn({}),
        Undo(0),
        Set(Member(1, 1), {"gene": "x" * 300}),
    ],
)
def test_what_could_not_be_read_is_not_written(directive):
    with pytest.raises(InputError):
        steering.encode(directive)


@given(st.sampled_from(ALL), st.data())
def test_damaged_directives_are_read_or_refused_in_one_line(directive, data):
    blob = bytearray(steering.encode(directive).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert msgspec.json.encode(steering.decode(bytes(blob)))
    except InputError as error:
        assert str(error).isprintable()
