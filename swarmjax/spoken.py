"""What is said on the command line to a run: words as a directive, and the ledger as a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from swarmjax.commands import Steer
from swarmjax.ledger import Entry
from swarmjax.space import Choice, Option, Space
from swarmjax.steerable import Scene
from swarmjax.steering import (
    Add,
    Boost,
    Breed,
    Clone,
    Directive,
    Freeze,
    Kill,
    Member,
    Note,
    Pause,
    Pin,
    Resume,
    Set,
    Stop,
    Thaw,
    Turn,
    Undo,
    Unpin,
    decode,
    describe,
)
from swarmjax.types import InputError

_WHOLE: dict[str, type] = {"pause": Pause, "resume": Resume, "stop": Stop}
_SINGLE: dict[str, type] = {
    "kill": Kill, "freeze": Freeze, "thaw": Thaw, "pin": Pin, "unpin": Unpin,
}  # fmt: skip


def parse(words: Sequence[str], scene: Scene) -> Directive:
    """The directive that words such as `kill 17` stand for.

    A member is a slot, and means the network that lives there now; `17@210` means network 210 only.

    Raises:
        InputError: they stand for none.
    """
    name, *rest = words
    single = (*_WHOLE, *_SINGLE, *_FORMS)
    if name not in single:
        raise InputError(f"{name!r} is no directive; known are {', '.join(single)}")
    try:
        if name in _WHOLE:
            () = rest
            return _WHOLE[name]()
        if name in _SINGLE:
            (slot,) = rest
            return _SINGLE[name](_member(slot, scene))
        return _FORMS[name](rest, scene)
    except InputError:
        raise
    except ValueError:
        forms = " ".join((Steer.__doc__ or "").split("\n\n")[1].split()).split(" | ")
        form = next(form for form in forms if form.split()[0] == name)
        raise InputError(f"{' '.join(words)!r} cannot be read; write it as: {form}") from None


def _member(word: str, scene: Scene) -> Member:
    slot, _, birth = word.partition("@")
    number, members = int(slot), len(scene.birth)
    if not members:
        raise InputError("no network lives yet; wait for the end of the first round")
    if not 0 <= number < members:
        raise InputError(f"there is no member {number}; members are 0 to {members - 1}")
    return Member(number, int(birth) if birth else int(scene.birth[number]))


def _into(words: Sequence[str], scene: Scene) -> tuple[list[str], Member | None]:
    """The words before `into`, and the member after it."""
    if "into" not in words:
        return list(words), None
    place = list(words).index("into")
    (slot,) = words[place + 1 :]
    return list(words[:place]), _member(slot, scene)


def _boost(words: Sequence[str], scene: Scene) -> Directive:
    slot, *factor = words
    (value,) = factor or ["2"]
    return Boost(_member(slot, scene), float(value))


def _clone(words: Sequence[str], scene: Scene) -> Directive:
    (slot,), into = _into(words, scene)
    return Clone(_member(slot, scene), into)


def _breed(words: Sequence[str], scene: Scene) -> Directive:
    (one, other, *operator), into = _into(words, scene)
    (how,) = operator or ["average"]
    return Breed(_member(one, scene), _member(other, scene), how, into)


def _set(words: Sequence[str], scene: Scene) -> Directive:
    slot, *genes = words
    return Set(_member(slot, scene), _genes(genes, scene.space))


def _turn(words: Sequence[str], scene: Scene) -> Directive:
    del scene
    pairs = dict(_pair(word) for word in words)
    return Turn(
        {name: None if value == "default" else float(value) for name, value in pairs.items()}
    )


def _add(words: Sequence[str], scene: Scene) -> Directive:
    count, *genes = words
    return Add(int(count), _genes(genes, scene.space))


def _note(words: Sequence[str], scene: Scene) -> Directive:
    first, *rest = words
    if rest:
        return Note(" ".join(rest), _member(first, scene))
    return Note(first)


def _undo(words: Sequence[str], scene: Scene) -> Directive:
    del scene
    (number,) = words
    return Undo(int(number))


_FORMS: dict[str, Callable[[Sequence[str], Scene], Directive]] = {
    "boost": _boost, "clone": _clone, "breed": _breed, "set": _set, "turn": _turn, "add": _add,
    "note": _note, "undo": _undo,
}  # fmt: skip


def _genes(words: Sequence[str], space: Space) -> dict[str, Option]:
    return {name: _value(name, text, space) for name, text in map(_pair, words)}


def _pair(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise ValueError(word)
    return name, value


def _value(name: str, text: str, space: Space) -> Option:
    """A gene's value; what is none is left as text, which the check refuses with the reason."""
    gene = space[name] if name in space else None
    if isinstance(gene, Choice):
        return next((option for option in gene.options if str(option) == text), text)
    try:
        return float(text)
    except ValueError:
        return text


def ledger_table(entries: Sequence[Entry]) -> Table:
    """What was asked of a run, and what became of it."""
    table = Table(box=None)
    for column in ("id", "asked", "by", "directive", "state", "round", "effect"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        when = time.strftime("%H:%M:%S", time.localtime(min(max(entry.time, 0.0), 2.0**33)))
        round = "" if entry.round is None else str(entry.round)
        cells = (str(entry.id), when, entry.who, what(entry), entry.state, round, entry.told)
        # As Text, since in a string rich would read markup.
        table.add_row(*map(Text, cells))
    return table


def what(entry: Entry) -> str:
    """What an entry asks for, in words."""
    try:
        return describe(decode(entry.body))
    except InputError:
        return "unreadable"
