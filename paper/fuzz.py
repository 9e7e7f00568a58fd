"""Row: records that nobody should send, by the ten thousand.

Messages are made by Hypothesis: random bytes, random MessagePack, records with any value in any
field, and sound records and tables of windows with bytes changed, left out or doubled. A process
of its own decodes each as a record, as a directive and as a bulletin, whose tables are looked into,
and keeps the records in an inbox. Crashed is a
process that died or raised anything but the refusal; uncounted is a message that was neither kept,
nor a repetition, nor refused with a reason.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paper import stream_worker
from paper.measure import Row, at_least, at_most, need, progress
from paper.workers import Worker, WorkerError, serve
from swarmjax import bulletins, clock, directives, ipc, records, telemetry, vetted, windows
from swarmjax.errors import InputError
from swarmjax.inbox import Inbox

_BATCH = 250
# What a process of the row holds until it ends.
_open = contextlib.ExitStack()


def fuzz() -> Row:
    """Nothing may crash, and everything is counted."""
    targets = {
        "fuzzed_records": at_least(10_000), "fuzz_crashes": at_most(0), "fuzz_uncounted": at_most(0)
    }  # fmt: skip
    return Row(lambda quick: targets, _measure)


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    need("hypothesis")
    wanted, found, crashes = 10_500 if quick else 50_000, Counter(), 0
    seed = 0
    while found["messages"] < wanted and crashes < 10:
        with Worker("paper.fuzz") as worker:
            try:
                worker.ask(case={})
                while found["messages"] < wanted:
                    seed += 1
                    found.update(worker.ask(arguments={"seed": seed})["found"])
            except WorkerError as error:
                crashes += 1
                progress(f"crashed by seed {seed}: {error}")
    sorted_out = found["kept"] + found["repeated"] + found["refused"]
    values: dict[str, float] = {
        "fuzzed_records": found["messages"], "fuzz_crashes": crashes + found["raised"],
        "fuzz_uncounted": found["messages"] - sorted_out,
    }  # fmt: skip
    progress(f"{dict(found)}, {crashes} crashes")
    return values, dict(found) | {"crashes": crashes}


def sound() -> list[bytes]:
    """A record of each kind, as bytes."""
    mark = {"node": "torch-0", "incarnation": 1, "sequence": 0}
    at = clock.stamp(clock.Reading(1_700_000_000 * 10**9, 5), None)
    mark |= at._asdict()
    row = windows.window([1.0, 2.0], [0.5], round=1, step=2, seconds=0.1, usage={}, stamp=at)
    rows = [row | {"valid_f1": 0.5, "0.weight:norm": 1.0}, row]
    made = [
        records.Announce(
            **mark, framework="pytorch", layers=(records.Layer("0", "Linear", (2, 3)),),
            connections=(), weights={"0.weight": (3, 2)}, genes={"learning_rate": 0.1},
            obeys=("learning_rate",), step=0, parameters=6, cost=36.0, bytes=24.0,
        ),
        records.Report(
            **mark, grant=1, started="own", steps=2, step=2, loss=1.5, gradient_norm=0.5,
            metrics={"valid_f1": 0.5}, finite=True, seconds=0.1, outputs=((0.5, 0.5),),
        ),
        records.Windows(**mark, table=windows.write_windows(rows)),
        records.Shared(**mark, request=1, part=0, parts=1, data=b"weights"),
        records.Leave(**mark, reason="finished"),
        records.Beat(**mark, sent=5, grant=1, step=2),
    ]  # fmt: skip
    return [records.encode_up(record) for record in made]


def messages() -> Any:
    """The strategy of what is sent."""
    # Imported here: it belongs to an extra.
    import msgspec
    from hypothesis import strategies as st

    good = sound() + told()
    plain = [msgspec.msgpack.decode(blob) for blob in good]
    tabled = [record for record in plain if "table" in record]
    values = _values()

    @st.composite
    def changed(draw: Any) -> bytes:
        record = dict(draw(st.sampled_from(plain)))
        return msgspec.msgpack.encode(
            record | {draw(st.sampled_from(sorted(record))): draw(values)}
        )

    tables = st.sampled_from(tabled).flatmap(
        lambda record: _damaged(st.just(record["table"])).map(
            lambda table: msgspec.msgpack.encode(record | {"table": table})
        )
    )
    return st.one_of(
        st.binary(max_size=300), values.map(msgspec.msgpack.encode), changed(), tables,
        _damaged(st.sampled_from(good)), st.sampled_from(good),
    )  # fmt: skip


def _values() -> Any:
    """Whatever MessagePack can hold."""
    from hypothesis import strategies as st

    plain = (st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
             | st.text() | st.binary())  # fmt: skip
    nest = lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)  # noqa: E731
    return st.recursive(plain, nest, max_leaves=8)


def _damaged(blobs: Any) -> Any:
    """Bytes of which some are changed, left out or doubled."""
    from hypothesis import strategies as st

    @st.composite
    def damaged(draw: Any) -> bytes:
        blob = bytearray(draw(blobs))
        for _ in range(draw(st.integers(1, 6))):
            place, kind = draw(st.integers(0, max(len(blob) - 1, 0))), draw(st.integers(0, 3))
            some = draw(st.integers(1, 9))
            if kind == 0:
                del blob[place : place + some]
            elif kind == 1:
                blob[place:place] = blob[place : place + some]
            else:
                blob[place : place + 1] = bytes([draw(st.integers(0, 255))])
        return bytes(blob)

    return damaged()


def prepare() -> Callable[[int], dict[str, int]]:
    """A round: a batch of messages, and what became of them."""
    import hypothesis

    folder = _open.enter_context(tempfile.TemporaryDirectory())
    inbox = _open.enter_context(contextlib.closing(Inbox(Path(folder) / "inbox.db")))
    strategy = messages()
    quiet = hypothesis.settings(
        max_examples=_BATCH, deadline=None, database=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),  # pyright: ignore[reportArgumentType]
    )  # fmt: skip

    def round(seed: int) -> dict[str, int]:
        some: list[bytes] = []

        def collect(blob: bytes) -> None:
            some.append(blob)

        hypothesis.seed(seed)(quiet(hypothesis.given(strategy)(collect)))()
        return sort_out(inbox, some)

    return round


def bulletin(blob: bytes) -> None:
    """Decodes what a controller tells, with its table; raises InputError if that is refused."""
    record = bulletins.decode_bulletin(blob)
    if isinstance(record, bulletins.Rows):
        vetted.checked(record)


def told() -> list[bytes]:
    """A bulletin of each kind and table, as bytes."""
    at = clock.stamp(clock.Reading(1_700_000_000 * 10**9, 5), None)
    used: dict[str, float] = {"cpu": 0.5, "memory": 0.5, "gpu": 0.5, "gpu_memory": 0.5}
    own = np.arange(3, dtype=np.int32)
    frame = dict.fromkeys(("member", "birth", "steps", "step"), own)
    tables: dict[Any, pa.Table] = {
        "frame": ipc.table(frame | {"round": own * 0 + 1, "alive": own > 0}),
        "windows": stream_worker.windows(np.random.default_rng(0), 1, 3),
        "usage": telemetry.usage_table(1, 0.5, used, at),
    }
    made = [
        bulletins.About(follower=1, key="status", value=b"{}"),
        bulletins.Said(follower=1, id=1, time=0.5, round=1, kind="note", member=None, text="x"),
        *(bulletins.Rows(follower=1, kind=kind, round=1, part=0, parts=1, table=ipc.to_bytes(rows))
          for kind, rows in tables.items()),
    ]  # fmt: skip
    return [bulletins.encode(record) for record in made]


def sort_out(inbox: Inbox, some: list[bytes]) -> dict[str, int]:
    """What became of messages: kept, repeated, refused, and what raised something else."""
    raised = 0
    for blob in some:
        for decode in (records.decode_up, directives.decode_down, bulletin):
            try:
                decode(blob)
            except InputError as error:
                raised += not str(error).isprintable()
            except Exception:  # noqa: BLE001 - what is looked for
                raised += 1
    before = inbox.refused, inbox.repeated, sum(inbox.reasons().values())
    kept = len(inbox.take(some))
    told = sum(inbox.reasons().values()) - before[2]
    refused, repeated = inbox.refused - before[0], inbox.repeated - before[1]
    # Refused is only what has a reason on disk.
    return {
        "messages": len(some), "kept": kept, "repeated": repeated, "refused": min(told, refused),
        "raised": raised,
    }  # fmt: skip


if __name__ == "__main__":
    with _open:
        serve(prepare)
