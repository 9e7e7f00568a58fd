"""What the controller tells training nodes, version 1; the schema of the messages down.

    grant      steps to take, genes to take them with, and what weights to start from
    weights    a part of the weights to start from
    share      asks for the node's weights
    stop       the node is to end
    pulse      the answer to a `records.Beat`

They are as strict as what comes up, see `records`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from swarmjax.records import (
    HEAVIEST,
    LARGEST,
    PART,
    Genes,
    Name,
    Record,
    Signed,
    Small,
    Text,
    Whole,
    decode,
)


class _Down(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every record to a node says.

    Attributes:
        node: to whom.
        incarnation: of the node that is meant; another one does not heed it.
    """

    node: Name
    incarnation: Whole


class Grant(_Down, tag="grant", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Steps to take, and how.

    Attributes:
        number: rises from grant to grant of a node, from 1 on.
        round: of the swarm.
        steps: training steps to take; 0: only evaluate.
        genes: new values of the genes that the node obeys.
        start: from its own weights, from fresh ones, or from the `weights` that came before.
        request: of which weights, where it starts from some; else 0.
        step: training steps behind those weights.
    """

    number: Whole
    round: Small
    steps: Small
    genes: Genes
    start: Literal["own", "fresh", "weights"]
    request: Whole = 0
    step: Small = 0


class Given(_Down, tag="weights", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the weights to start from; fields as in `Shared`."""

    request: Whole
    part: Small
    parts: Annotated[int, Meta(ge=1, le=HEAVIEST // PART + 1)]
    data: Annotated[bytes, Meta(max_length=PART)]


class Share(_Down, tag="share", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Asks for the weights of the last report; `request` numbers the answer."""

    request: Whole


class Stop(_Down, tag="stop", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The node is to end, and why."""

    reason: Text


class Pulse(_Down, tag="pulse", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The answer to a beat: its `sent`, and the controller's nanoseconds of `clock.Exchange`.

    Attributes:
        sent: as in the beat.
        received: see `clock.Exchange`.
        answered: the same.
        utc_offset: to add to the controller's nanoseconds to get UTC, as an NTP server tells it.
        utc_bound: how wrong that may be; -1: it asks no server.
    """

    sent: Whole
    received: Whole
    answered: Whole
    utc_offset: Signed = 0
    utc_bound: Annotated[int, Meta(ge=-1, le=2**63 - 1)] = -1


Down = Grant | Given | Share | Stop | Pulse
_DECODER = msgspec.msgpack.Decoder(Down)


def encode_down(record: Down) -> bytes:
    """A directive as bytes; raises InputError if it would be refused at the other end."""
    blob = msgspec.msgpack.encode(record)
    decode(_DECODER, blob, LARGEST, "a directive to be sent")
    return blob


def decode_down(blob: bytes) -> Down:
    """A directive for a node; raises InputError on anything else."""
    return decode(_DECODER, blob, LARGEST, "a directive")
