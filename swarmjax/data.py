"""Examples: arrays of inputs and targets, checked when they are given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from swarmjax.types import InputError

# More outputs than this are a mistake in the labels rather than classes.
_MOST_CLASSES = 2**17


class Data(NamedTuple):
    """Examples: `x` `[n, ...]` float32 or int32, and targets `y`.

    Targets are class numbers `[n]` int32, next tokens `[n, T]` int32 or real numbers `[n, k]`
    float32.
    """

    x: np.ndarray
    y: np.ndarray

    @property
    def kind(self) -> str:
        """What the targets are: `classes`, `tokens` or `numbers`."""
        if self.y.dtype != np.int32:
            return "numbers"
        return "classes" if self.y.ndim == 1 else "tokens"


def checked(train: Any, valid: Any, test: Any) -> tuple[Data, Data, Data | None]:
    """The splits as arrays of the types that training wants.

    Raises:
        InputError: see `tasks.task`.
    """
    given = (_data("train", train), _data("valid", valid))
    tested = None if test is None else _data("test", test)
    splits = _same_inputs([*given, *([] if tested is None else [tested])])
    for other in splits[1:]:
        _check_same(splits[0], other)
    return splits[0], splits[1], None if tested is None else splits[2]


def outputs_needed(splits: list[Data]) -> int:
    """Numbers that a network must return for one example, or for one token of it."""
    kind = splits[0].kind
    if kind == "numbers":
        return int(splits[0].y.shape[1])
    # Tokens that are only read belong to the vocabulary too.
    parts = [part for data in splits for part in (data if kind == "tokens" else data[1:])]
    return int(max(part.max() for part in parts)) + 1


def check_labels(splits: list[Data], outputs: int | None) -> None:
    """Raises InputError on targets that a usual loss cannot be meant for.

    Args:
        splits: as from `checked`.
        outputs: numbers a network returns for one example, if given.
    """
    kind, needed = splits[0].kind, outputs_needed(splits)
    y = np.concatenate([data.y for data in splits])
    values = np.unique(y)
    binary = len(values) == 2 and (values == (0, 1)).all()
    if y.ndim == 2 and y.shape[1] > 1 and binary and (y.sum(axis=1) == 1).all():
        raise InputError("targets are one-hot; pass class numbers, as from y.argmax(axis=1)")
    if kind == "numbers" and y.shape[1] == 1 and binary:
        raise InputError(
            "targets are real numbers, but all 0 or 1; make them integers for a classification, "
            "or give loss=sj.tasks.squared_error for a regression"
        )
    if kind == "classes" and outputs in (None, len(values)) and _count_from_one(values):
        raise InputError(
            f"labels are 1 to {len(values)}, but classes count from 0; subtract 1, or give "
            f"outputs={len(values) + 1} if class 0 only has no example here"
        )
    if outputs is not None and (outputs != needed if kind == "numbers" else outputs < needed):
        raise InputError(f"outputs {outputs} does not fit the targets, which need {needed}")


def _count_from_one(values: np.ndarray) -> bool:
    return len(values) > 1 and (values == np.arange(1, len(values) + 1)).all()


def _data(label: str, split: tuple[Any, Any]) -> Data:
    try:
        x, y = _inputs(label, split[0]), np.asarray(split[1])
        real = y.astype(np.float32)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{label} data must be arrays of numbers: {error}") from None
    if len(x) != len(y) or len(x) == 0:
        raise InputError(f"{label} data has {len(x)} inputs and {len(y)} targets; need equal, > 0")
    for part, values in (("inputs", x), ("targets", real)):
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise InputError(
                f"{label} {part} hold NaN or infinity in {bad.sum()} of {len(x)} examples, "
                f"first at {int(bad.argmax())}; clean the data first"
            )
    whole = y.dtype.kind in "iub"
    if whole and y.ndim == 1:
        return Data(x, _classes(f"{label} labels", y))
    if whole and y.ndim == 2 and y.shape == x.shape and x.dtype == np.int32:
        return Data(_classes(f"{label} tokens", x), _classes(f"{label} tokens", y))
    return Data(x, real.reshape(len(y), -1))


def _classes(what: str, y: np.ndarray) -> np.ndarray:
    if y.min() < 0 or y.max() >= _MOST_CLASSES:
        raise InputError(
            f"{what} must be class numbers from 0 to {_MOST_CLASSES - 1}, got "
            f"{y.min()} to {y.max()}; for a regression make them real numbers"
        )
    return y.astype(np.int32)


def _inputs(label: str, given: Any) -> np.ndarray:
    """Inputs as float32, or as int32 where they are whole numbers (tokens, pixels)."""
    x = np.asarray(given)
    if x.dtype.kind == "c":
        raise InputError(f"{label} inputs are complex; split them into real and imaginary parts")
    if x.dtype.kind in "iu" and abs(x).max(initial=0) < 2**31:
        return x.astype(np.int32)
    # What float32 cannot hold becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _same_inputs(splits: list[Data]) -> list[Data]:
    """Whole numbers as inputs only if they are so in every split."""
    if len({data.x.dtype for data in splits}) == 1:
        return splits
    return [data._replace(x=data.x.astype(np.float32)) for data in splits]


def _check_same(first: Data, other: Data) -> None:
    if first.x.shape[1:] != other.x.shape[1:]:
        raise InputError(f"inputs differ in shape: {first.x.shape[1:]} and {other.x.shape[1:]}")
    if first.y.dtype != other.y.dtype or first.y.shape[1:] != other.y.shape[1:]:
        raise InputError(f"targets differ: {first.y.dtype} and {other.y.dtype}, or their shapes")
