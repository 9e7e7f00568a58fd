"""What training nodes tell the controller, version 1; the schema of the messages up.

Every message is one record, MessagePack with a `type`, of at most `LARGEST` bytes; unknown fields,
types, lengths and values out of bounds are refused in one line:

    announce   who it is, its architecture and genes
    windows    a table of what training showed, one row per window of steps (see `windows`)
    report     the end of a grant: steps taken, loss, validation metrics
    weights    a part of its weights, asked for by `share`
    leave      it goes
    beat       a sign of life, which asks for the time; not stored, and no part of the sequence

What is said to a node is in `directives`.

Times are integers of nanoseconds, sizes of bytes; NaN is a loss that is not finite. Every record up
is marked by (node, incarnation, sequence), which is never used twice, and by a clock `Stamp`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from swarmjax.clock import Stamp
from swarmjax.errors import InputError, one_line

VERSION = 1
# Kafka refuses messages of a million bytes unless told otherwise.
LARGEST = 900 * 1024
# Bytes of a part of somebody's weights, and of them all.
PART, HEAVIEST = 512 * 1024, 2**28
_LONG = 2**63 - 1

Whole = Annotated[int, Meta(ge=0, le=_LONG)]
Small = Annotated[int, Meta(ge=0, lt=2**31)]
Signed = Annotated[int, Meta(ge=-_LONG, le=_LONG)]
# A node is called like a file without a path.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Gene = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}\Z")]
Metric = Annotated[str, Meta(pattern=r"^valid_[A-Za-z0-9_]{1,58}\Z")]
# Of a weight: what its framework calls it, such as Dense_0/kernel or 0.weight.
Path = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}\Z")]
Text = Annotated[str, Meta(max_length=256)]
Value = bool | int | float | Annotated[str, Meta(max_length=64)]
Genes = Annotated[dict[Gene, Value], Meta(max_length=64)]
Shape = Annotated[tuple[Small, ...], Meta(max_length=8)]
Shapes = Annotated[dict[Path, Shape], Meta(max_length=4096)]


class Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of either direction; `version` is that of the schema."""

    version: Literal[1] = VERSION


class _Up(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every record of a node says.

    Attributes:
        node: its name, unique in the swarm.
        incarnation: of its process; greater at every start, see `spool.Spool`.
        sequence: number of the record within the incarnation, from 0 on.
        wall_ns: see `clock.Stamp`, as for the next three.
        monotonic_ns: its monotonic clock.
        clock_offset: to add to `wall_ns` to get the controller's time.
        clock_bound: how wrong that may be; -1: unknown.
    """

    node: Name
    incarnation: Whole
    sequence: Whole
    wall_ns: Whole
    monotonic_ns: Whole
    clock_offset: Signed
    clock_bound: Annotated[int, Meta(ge=-1, le=_LONG)]

    @property
    def stamp(self) -> Stamp:
        """When it was made."""
        return Stamp(self.wall_ns, self.monotonic_ns, self.clock_offset, self.clock_bound)


class Layer(Struct, frozen=True, forbid_unknown_fields=True):
    """One layer of an architecture.

    Attributes:
        name: what the framework calls it.
        kind: its type, such as Linear or ReLU.
        sizes: whatever numbers define it: units in and out, channels, kernel.
    """

    name: Text
    kind: Text
    sizes: Shape = ()


class Announce(_Up, tag="announce", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node joins, or returns.

    Attributes:
        framework: such as "pytorch 2.7".
        layers: its architecture.
        connections: pairs of places in `layers`: from, to.
        weights: path -> shape of what it can give and take; nodes with equal ones can take over
            each other's weights. Empty: it cannot.
        genes: name -> value, in the units of the swarm's space; choices: the option.
        obeys: those genes that it changes when told to.
        step: training steps behind the weights it has now, 0 for fresh ones.
        parameters: how many weights it has.
        cost: floating-point operations of one training step, 0 if unknown.
        bytes: of its weights and optimizer state.
    """

    framework: Text
    layers: Annotated[tuple[Layer, ...], Meta(max_length=4096)]
    connections: Annotated[tuple[tuple[Small, Small], ...], Meta(max_length=16384)]
    weights: Shapes
    genes: Genes
    obeys: Annotated[tuple[Gene, ...], Meta(max_length=64)]
    step: Small
    parameters: Small
    cost: Annotated[float, Meta(ge=0, le=1e30)]
    bytes: Annotated[float, Meta(ge=0, le=1e30)]


class Windows(_Up, tag="windows", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What training showed: `table` is an Arrow stream, read by `windows.read_windows`."""

    table: Annotated[bytes, Meta(max_length=LARGEST)]


class Report(_Up, tag="report", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The end of a grant.

    Attributes:
        grant: number of that grant.
        started: what it really started from; its own weights, where those sent were of no use.
        steps: training steps taken.
        step: training steps behind the weights.
        loss: mean over the steps taken; NaN without any.
        gradient_norm: mean over them; NaN if not told.
        metrics: validation metrics of the weights.
        finite: loss and weights are finite.
        seconds: wall seconds of one step; NaN without any.
        outputs: P rows of C numbers: what the network makes of the examples that describe members
            (`Frame.descriptor`); empty if not told.
    """

    grant: Whole
    started: Literal["own", "fresh", "weights"]
    steps: Small
    step: Small
    loss: float
    gradient_norm: float
    metrics: Annotated[dict[Metric, float], Meta(max_length=64)]
    finite: bool
    seconds: float
    outputs: Annotated[
        tuple[Annotated[tuple[float, ...], Meta(max_length=1024)], ...], Meta(max_length=64)
    ] = ()


class Shared(_Up, tag="weights", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a node's weights; all parts together are read by `parcels.read_weights`.

    Attributes:
        request: number of the `share` that asked.
        part: from 0 on.
        parts: how many there are.
        data: at most `PART` bytes.
    """

    request: Whole
    part: Small
    parts: Annotated[int, Meta(ge=1, le=HEAVIEST // PART + 1)]
    data: Annotated[bytes, Meta(max_length=PART)]


class Leave(_Up, tag="leave", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node goes, and says why."""

    reason: Text


class Beat(_Up, tag="beat", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sign of life, which asks for the time; `sequence` counts beats.

    Attributes:
        sent: the node's monotonic nanoseconds when it left.
        grant: number of the last grant that it heard of, 0 for none.
        step: training steps behind its weights.
    """

    sent: Whole
    grant: Whole
    step: Small


Up = Announce | Windows | Report | Shared | Leave | Beat


_DECODER = msgspec.msgpack.Decoder(Up)


def encode_up(record: Up) -> bytes:
    """A record as bytes; raises InputError if it would be refused at the other end."""
    blob = msgspec.msgpack.encode(record)
    decode(_DECODER, blob, LARGEST, "a record to be sent")
    return blob


def decode_up(blob: bytes) -> Up:
    """A record from a node; raises InputError on anything else."""
    return decode(_DECODER, blob, LARGEST, "a record from a node")


def decode(decoder, blob: bytes, most: int, what: str):
    """What `decoder` makes of at most so many bytes; InputError, in which they are `what`."""
    if len(blob) > most:
        raise InputError(f"{what} has {len(blob)} bytes, more than {most}; refused")
    try:
        return decoder.decode(blob)
    # A nest of arrays exceeds the recursion, a number the range of floats.
    except (msgspec.MsgspecError, RecursionError, OverflowError, ValueError) as error:
        raise InputError(f"{what} is refused: {one_line(error)}") from None


def channel_up(swarm: str) -> str:
    """The channel by which all nodes of a swarm are heard."""
    return f"swarmjax.{check_name(swarm)}.up"


def channel_down(swarm: str, node: str) -> str:
    """The channel by which one node is told something."""
    return f"swarmjax.{check_name(swarm)}.down.{check_name(node)}"


def check_name(name: str) -> str:
    """The name of a swarm or node; InputError unless it is fit to be one."""
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        raise InputError(
            f"the name {one_line(name)!r} must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a "
            "letter or digit"
        ) from None


def check_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Validation metrics by name; InputError unless all are called `valid_...`."""
    try:
        return msgspec.convert(metrics, Annotated[dict[Metric, float], Meta(max_length=64)])
    except msgspec.ValidationError:
        names = one_line(", ".join(map(str, metrics)))
        raise InputError(
            f"metrics are called valid_loss, valid_f1 and the like; got {names}"
        ) from None
