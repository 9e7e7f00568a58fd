import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax.corpus import encode, python_help, vocabulary, windows
from swarmjax.types import InputError


def test_the_text_is_english_and_repeats_no_paragraph():
    text = python_help()
    assert len(text) > 200_000 and text.count(" the ") > 2_000
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs)
    assert not re.search(r"(.)\1{8}", text)
    assert python_help() == text


def test_a_python_without_the_text_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match="no pydoc_data"):
        python_help()


def test_vocabulary_by_hand():
    assert vocabulary("banana bread", 3) == "abn"
    assert vocabulary("cab", 9) == "abc", "ties by code; fewer than asked for"


def test_encoding_by_hand():
    np.testing.assert_array_equal(encode("abcaé😀", "ca"), [2, 0, 1, 2, 0, 0])
    np.testing.assert_array_equal(encode("a", "é"), [0])


@given(st.text(min_size=1), st.integers(1, 9))
def test_what_is_in_the_vocabulary_can_be_read_back(text, size):
    characters = vocabulary(text, size)
    codes = encode(text, characters)
    assert codes.dtype == np.int32 and len(codes) == len(text)
    back = "".join("?" if code == 0 else characters[code - 1] for code in codes)
    assert back == "".join(c if c in characters else "?" for c in text)


def test_windows_by_hand():
    x, y = windows(np.arange(10), 3)
    np.testing.assert_array_equal(x, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(windows(np.arange(9), 3)[0], x[:2])
    np.testing.assert_array_equal(windows(np.arange(10), 3, most=2)[0], x[:2])
    np.testing.assert_array_equal(windows(np.arange(10), 3, most=5)[0], x)


@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 30))
def test_windows_are_spread_over_the_text(characters, length, most):
    full, _ = windows(np.arange(characters), length)
    some, after = windows(np.arange(characters), length, most)
    assert len(some) == min(most, len(full))
    np.testing.assert_array_equal(after, some + 1)
    gaps = np.diff(some[:, 0])
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= length
