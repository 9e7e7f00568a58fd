"""What a person may ask of a running swarm: directives, version 1, as records.

    pause, resume, stop                     of the whole run
    boost, freeze, thaw, pin, unpin, kill   of one network
    clone, breed                            a child in another slot
    set                                     genes of one network
    turn                                    weights of goals and numbers of policies (`dials`)
    add                                     fresh networks in dead slots, or in those of the worst
    note                                    a remark on a network, or on the run
    undo                                    takes another directive back, where that makes sense

A network is named by slot and birth number, so that nothing ever hits another one that took its
slot. Directives are JSON of at most `LARGEST` bytes; whatever is not as described is refused. What
a certain run allows is checked by `steerable.check`.
"""

from __future__ import annotations

import contextlib
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from swarmjax.errors import InputError, one_line

LARGEST = 8192
# Nobody trains beside the last member of a round, so that far larger grants would make others wait.
MOST_BOOST = 16.0

Small = Annotated[int, Meta(ge=0, lt=2**31)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,127}\Z")]
Genes = Annotated[
    dict[Name, bool | int | float | Annotated[str, Meta(max_length=256)]], Meta(max_length=64)
]


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """A network: the `birth` that lives in `slot`."""

    slot: Small
    birth: Small


class _Directive(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Any of those below; `kind` in JSON is the name in lower case."""


class Pause(_Directive, frozen=True, tag="pause"):
    """No further round begins."""


class Resume(_Directive, frozen=True, tag="resume"):
    """Rounds go on."""


class Stop(_Directive, frozen=True, tag="stop"):
    """The run ends after the round that is being trained, as if its budget were spent."""


class Boost(_Directive, frozen=True, tag="boost"):
    """It gets `factor` times the steps granted, or the mean grant if that is more; 1 ends it."""

    member: Member
    factor: Annotated[float, Meta(ge=1.0, le=MOST_BOOST)] = 2.0


class Freeze(_Directive, frozen=True, tag="freeze"):
    """It keeps its weights, genes and slot, and takes no steps."""

    member: Member


class Thaw(_Directive, frozen=True, tag="thaw"):
    """It is frozen no more."""

    member: Member


class Pin(_Directive, frozen=True, tag="pin"):
    """It keeps its slot and genes, and trains as the policy says."""

    member: Member


class Unpin(_Directive, frozen=True, tag="unpin"):
    """It is pinned no more."""

    member: Member


class Kill(_Directive, frozen=True, tag="kill"):
    """It ends; the policy fills its slot as if it had died, else a fresh network does."""

    member: Member


class Clone(_Directive, frozen=True, tag="clone"):
    """A copy of it starts in the slot of `into`; None: in a dead one or that of the worst."""

    member: Member
    into: Member | None = None


class Breed(_Directive, frozen=True, tag="breed"):
    """A child of two starts: built like `member`, its other genes from either.

    `operator` is one of `crossover.OF_TWO`; `into` as in `Clone`.
    """

    member: Member
    mate: Member
    operator: Name = "average"
    into: Member | None = None


class Set(_Directive, frozen=True, tag="set"):
    """It goes on with these values of its genes, options by themselves."""

    member: Member
    genes: Genes


class Turn(_Directive, frozen=True, tag="turn"):
    """Dials get these values; None: what they were made with."""

    values: Annotated[dict[Name, float | None], Meta(min_length=1, max_length=64)]


class Add(_Directive, frozen=True, tag="add"):
    """So many fresh networks, of random genes but for those given."""

    count: Annotated[int, Meta(ge=1, lt=2**31)]
    genes: Genes = {}


class Note(_Directive, frozen=True, tag="note"):
    """A remark on a network or, without one, on the run."""

    text: Annotated[str, Meta(min_length=1, max_length=500)]
    member: Member | None = None


class Undo(_Directive, frozen=True, tag="undo"):
    """The directive `id` is withdrawn while it waits, else its contrary is done."""

    id: Annotated[int, Meta(ge=1, le=2**63 - 1)]


Directive = (
    Pause | Resume | Stop | Boost | Freeze | Thaw | Pin | Unpin | Kill | Clone | Breed | Set
    | Turn | Add | Note | Undo
)  # fmt: skip
_DECODER = msgspec.json.Decoder(Directive)


def encode(directive: Directive) -> str:
    """A directive as JSON; raises InputError if it is not one that can be read back."""
    text = msgspec.json.encode(directive)
    decode(text)
    return text.decode()


def decode(text: bytes | str) -> Directive:
    """The directive that JSON holds; raises InputError on anything else."""
    try:
        if len(text) > LARGEST:
            raise InputError(f"a directive is refused: longer than {LARGEST} bytes")
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"a directive is refused: {one_line(str(error))}") from None


def kind_of(text: bytes | str) -> str:
    """The kind of the directive that JSON holds; none of it is any."""
    with contextlib.suppress(InputError):
        return str(type(decode(text)).__struct_config__.tag)
    return ""


def describe(directive: Directive) -> str:
    """What is asked for, in a few words: `clone member 3 into 5`."""
    fields = {name: getattr(directive, name) for name in directive.__struct_fields__}
    words = [str(type(directive).__struct_config__.tag)]
    for name in ("member", "mate", "into"):
        member = fields.pop(name, None)
        if member is not None:
            words += ["with" if name == "mate" else name, str(member.slot)]
    for value in fields.values():
        if isinstance(value, dict):
            words += [f"{key}={_shown(each)}" for key, each in value.items()]
        elif value is not None:
            words.append(_shown(value))
    return one_line(" ".join(words), 600)


def _shown(value: object) -> str:
    if value is None:
        return "as made"
    return f"{value:g}" if isinstance(value, float) else str(value)
