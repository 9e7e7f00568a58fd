"""What the controller of a swarm tells those who follow it from elsewhere, version 1, and is asked.

    follow     from who follows: from where on it wants to hear; repeated as long as it does
    meta       what the run is, or how it stands
    rows       a part of a table of a round, see `telemetry`
    said       an event of the run

They are as strict as what training nodes tell, see `records`, and at most as long. Of a round the
tables come in the order of `KINDS`, each in parts that follow one another; the frame table is the
last, so that whoever has it has the whole round. Tables without rows are not sent.

On the bus a frame table takes about 4 bytes a column and member, once a round, and windows 56 bytes
each: with default settings about 6 bytes a member-step. Nothing is sent while nobody follows.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from swarmjax.records import LARGEST, Record, Small, Whole, check_name, decode

# Parts of one table of all members, bytes of them together, and letters of an event.
MOST_PARTS, MOST_BYTES, LONGEST = 4096, 2**29, 2**16
# Tables of a round, in the order in which they come.
Kind = Literal["windows", "steps", "parameters", "quantiles", "layers", "islands", "usage", "frame"]
KINDS: tuple[str, ...] = get_args(Kind)


class Follow(Record, tag="follow", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody follows.

    Attributes:
        follower: a random number of its own; another one begins anew.
        round: the last round that it has.
        event: the last event that it has.
    """

    follower: Whole
    round: Small
    event: Whole


class _Told(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every bulletin says.

    Attributes:
        follower: for whom it is; others do not heed it.
    """

    follower: Whole


class About(_Told, tag="meta", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the run is, or how it stands.

    Attributes:
        key: which of these.
        value: JSON of it; that of `status` has the fields of `Stands`.
    """

    key: Literal["config", "space", "steering", "status"]
    value: Annotated[bytes, Meta(max_length=LARGEST)]


class Rows(_Told, tag="rows", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows of a table of a round, in order.

    Attributes:
        kind: which table, as `telemetry` describes it.
        round: finished rounds, counted from 1.
        part: from 0 on.
        parts: how many there are of this table.
        table: an Arrow stream.
    """

    kind: Kind = "frame"
    round: Annotated[int, Meta(ge=1, lt=2**31)]
    part: Small
    parts: Annotated[int, Meta(ge=1, le=MOST_PARTS)]
    table: Annotated[bytes, Meta(max_length=LARGEST)]


class Said(_Told, tag="said", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event, see `events.Event`."""

    id: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    time: float
    round: Small
    kind: Annotated[str, Meta(max_length=64)]
    member: Small | None
    text: Annotated[str, Meta(max_length=LONGEST)]
    value: float | None = None
    threshold: float | None = None


class Stands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of `store.Status`."""

    state: Annotated[str, Meta(max_length=64)]
    round: Small
    done: Whole
    budget: Whole
    best: float | None
    alive: Small
    members: Small
    heartbeat: float
    lineages: Small | None = None


Bulletin = About | Rows | Said
_FOLLOW = msgspec.msgpack.Decoder(Follow)
_BULLETIN = msgspec.msgpack.Decoder(Bulletin)
_STANDS = msgspec.json.Decoder(Stands)


def encode(record: Follow | Bulletin) -> bytes:
    """A record as bytes; raises InputError if it would be refused at the other end."""
    blob = msgspec.msgpack.encode(record)
    decoder = _FOLLOW if isinstance(record, Follow) else _BULLETIN
    decode(decoder, blob, LARGEST, "a bulletin to be sent")
    return blob


def decode_follow(blob: bytes) -> Follow:
    """What somebody asks who follows; raises InputError on anything else."""
    return decode(_FOLLOW, blob, LARGEST, "what a follower asks")


def decode_bulletin(blob: bytes) -> Bulletin:
    """What a controller tells; raises InputError on anything else."""
    return decode(_BULLETIN, blob, LARGEST, "a bulletin")


def decode_status(blob: bytes) -> Stands:
    """How a run stands, from JSON; raises InputError on anything else."""
    return decode(_STANDS, blob, LARGEST, "the status of a run")


def channel_asked(swarm: str) -> str:
    """The channel by which a swarm's controller is asked."""
    return f"swarmjax.{check_name(swarm)}.asked"


def channel_told(swarm: str) -> str:
    """The channel by which it tells."""
    return f"swarmjax.{check_name(swarm)}.told"
