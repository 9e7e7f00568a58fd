import numpy as np
import pytest

from swarmjax.data import Data, check_labels, checked, outputs_needed
from swarmjax.types import InputError

TOKENS = np.arange(12).reshape(4, 3) % 5


def split(x, y):
    return checked((x, y), (x, y), None)[0]


@pytest.mark.parametrize(
    ("x", "y", "kind", "shape"),
    [
        (TOKENS, TOKENS, "tokens", (4, 3)),
        (TOKENS.astype(np.uint8), TOKENS.astype(np.int64), "tokens", (4, 3)),
        (TOKENS / 2, TOKENS, "numbers", (4, 3)),
        (TOKENS, TOKENS / 2, "numbers", (4, 3)),
        (TOKENS[:, :2], TOKENS, "numbers", (4, 3)),
        (TOKENS[..., None], TOKENS, "numbers", (4, 3)),
        (TOKENS, TOKENS[:, 0], "classes", (4,)),
        (TOKENS, TOKENS[:, 0] / 2, "numbers", (4, 1)),
        (TOKENS, TOKENS[:, 0] > 1, "classes", (4,)),
    ],
)
def test_what_targets_are(x, y, kind, shape):
    data = split(x, y)
    assert (data.kind, data.y.shape) == (kind, shape)
    assert data.y.dtype == (np.float32 if kind == "numbers" else np.int32)
    np.testing.assert_allclose(data.y.reshape(np.shape(y)), y)


def test_a_vocabulary_holds_what_is_read_and_what_is_said():
    assert outputs_needed([split(TOKENS, TOKENS)]) == 5
    assert outputs_needed([split(TOKENS + 3, TOKENS)]) == 8
    assert outputs_needed([split(TOKENS, TOKENS), split(TOKENS, TOKENS + 4)]) == 9
    assert outputs_needed([split(TOKENS + 3, TOKENS[:, 0])]) == TOKENS[:, 0].max() + 1
    assert outputs_needed([split(TOKENS, TOKENS / 2)]) == 3


@pytest.mark.parametrize(("x", "y"), [(TOKENS - 1, TOKENS), (TOKENS, TOKENS - 1)])
def test_tokens_are_numbered_from_zero(x, y):
    with pytest.raises(InputError, match="train tokens must be class numbers.*got -1 to 3"):
        split(x, y)


def test_a_split_must_hold_what_the_others_hold():
    with pytest.raises(InputError, match="targets differ: int32 and float32"):
        checked((TOKENS, TOKENS), (TOKENS, TOKENS / 2), None)
    with pytest.raises(InputError, match="inputs differ in shape"):
        checked((TOKENS, TOKENS), (TOKENS, TOKENS), (TOKENS[:, :2], TOKENS[:, :2]))


def numbers(y):
    return [Data(np.zeros((len(y), 2), np.float32), np.asarray(y))]


EYE = np.eye(3)[[0, 2, 1, 1]]
LABELS = np.int32([1, 3, 2, 2, 1])


@pytest.mark.parametrize(
    ("y", "outputs", "message"),
    [
        (np.float32(EYE), None, "one-hot; pass class numbers"),
        (np.int32(EYE), None, "one-hot; pass class numbers"),
        (np.float32([[0], [1], [1]]), None, "all 0 or 1; make them integers"),
        (LABELS, None, "labels are 1 to 3.*subtract 1, or give outputs=4"),
        (LABELS, 3, "labels are 1 to 3"),
        (LABELS, 2, "outputs 2 does not fit the targets, which need 4"),
        (np.float32([[0], [2], [1]]), 2, "outputs 2 does not fit.*need 1"),
    ],
)
def test_labels_put_wrongly_are_refused(y, outputs, message):
    with pytest.raises(InputError, match=message):
        check_labels(numbers(y), outputs)


@pytest.mark.parametrize(
    ("y", "outputs"),
    [
        (LABELS, 4),
        (LABELS - 1, None),
        (np.int32([1, 3, 3]), None),
        (np.int32([1, 1]), None),
        (np.int32([2, 3]), None),
        (np.float32([[0], [1], [2]]), None),
        (np.float32([[1], [1]]), None),
        (np.float32([[0, 1], [1, 1]]), None),
        (np.float32([[0, 1], [0.5, 0.5]]), None),
        (np.int32([[1, 2], [2, 1]]), None),
    ],
)
def test_labels_that_may_be_meant_pass(y, outputs):
    check_labels(numbers(y), outputs)
