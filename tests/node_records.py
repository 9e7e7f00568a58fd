"""Records of a made-up node, for tests."""

from swarmjax import directives, records
from swarmjax.clock import Reading, stamp

MARK = {"node": "torch-0", "incarnation": 1, "sequence": 0}
STAMP = stamp(Reading(wall=1_700_000_000 * 10**9, monotonic=5), None)._asdict()
LAYERS = (records.Layer("0", "Linear", (2, 3)), records.Layer("1", "ReLU"))


def announce(**changes):
    given = {
        "framework": "pytorch 2", "layers": LAYERS, "connections": ((0, 1),),
        "weights": {"0.weight": (3, 2), "0.bias": (3,)}, "genes": {"learning_rate": 0.1},
        "obeys": ("learning_rate",), "step": 0, "parameters": 9, "cost": 100.0, "bytes": 72.0,
    }  # fmt: skip
    return records.Announce(**MARK | STAMP | given | changes)


def report(**changes):
    given = {
        "grant": 1, "started": "own", "steps": 5, "step": 5, "loss": 0.5, "gradient_norm": 1.0,
        "metrics": {"valid_loss": 0.6}, "finite": True, "seconds": 0.01,
    }  # fmt: skip
    return records.Report(**MARK | STAMP | given | changes)


def every_up():
    """One record of each kind, upwards."""
    mark = MARK | STAMP
    return [
        announce(),
        report(outputs=((0.1, 0.9), (0.5, 0.5))),
        records.Windows(**mark, table=b"table"),
        records.Shared(**mark, request=1, part=0, parts=2, data=b"data"),
        records.Leave(**mark, reason="finished"),
        records.Beat(**mark, sent=7, grant=1, step=5),
    ]


def every_down():
    """One record of each kind, downwards."""
    to = {"node": "torch-0", "incarnation": 1}
    return [
        directives.Grant(
            **to, number=1, round=1, steps=5, genes={"learning_rate": 0.2}, start="own"
        ),
        directives.Given(**to, request=1, part=0, parts=1, data=b"data"),
        directives.Share(**to, request=2),
        directives.Stop(**to, reason="finished"),
        directives.Pulse(**to, sent=7, received=8, answered=9),
    ]
