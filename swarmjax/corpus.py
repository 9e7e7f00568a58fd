"""English text at hand: what Python's own help says, as windows of characters."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from swarmjax.types import InputError


def python_help() -> str:
    """The text that Python's `help()` shows on topics, about 370 kB; versions of Python differ.

    Paragraphs that several topics share are kept once, and long gaps and rules in tables are cut
    short, so that no part of the text repeats another.

    Raises:
        InputError: this Python comes without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise InputError("this Python has no pydoc_data, the text of its help()") from None
    whole = "\n\n".join(topics[name].strip() for name in sorted(topics))
    # The same sentence may stand deeper in another topic, or be broken into other lines.
    distinct = {" ".join(part.split()): part for part in re.split(r"\n\s*\n", whole)}
    return re.sub(r"(.)\1{8,}", lambda run: run[0][:8], "\n\n".join(distinct.values()))


def vocabulary(text: str, size: int) -> str:
    """The `size` most frequent characters of `text`, the most frequent first, ties by code."""
    counts = Counter(text)
    return "".join(sorted(counts, key=lambda c: (-counts[c], c))[:size])


def encode(text: str, characters: str) -> np.ndarray:
    """Character numbers `[len(text)]` int32 from 1 on; 0 is a character not in `characters`."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    table = np.zeros(max(codes.max(), max(map(ord, characters))) + 1, np.int32)
    table[[ord(c) for c in characters]] = np.arange(1, len(characters) + 1)
    return table[codes]


def windows(
    codes: np.ndarray, length: int, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and next characters, `[n, length]` each, of windows that lie side by side.

    Args:
        codes: `[characters]` the text.
        length: characters of a window.
        most: windows to keep, evenly spread over the text; None for all.
    """
    count = (len(codes) - 1) // length
    starts = np.arange(count) * length
    if most is not None and most < count:
        starts = starts[np.arange(most) * count // most]
    at = starts[:, None] + np.arange(length)
    return codes[at], codes[at + 1]
