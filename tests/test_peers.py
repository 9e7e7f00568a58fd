import numpy as np
import pytest
from node_records import announce, report

from swarmjax.errors import InputError
from swarmjax.peers import Peer, raw_genes
from swarmjax.space import Space, choice, log_uniform, structure, uniform

SPACE = Space(
    learning_rate=log_uniform(1e-3, 1.0), momentum=uniform(-1.0, 1.0),
    nesterov=choice(False, True), kernel=structure(1, 3),
)  # fmt: skip
GENES = {"learning_rate": 0.01, "momentum": 0, "nesterov": True, "kernel": 3}


def peer(name="a", **changes):
    return Peer(0, announce(node=name, **changes), heard=1.0)


def test_genes_are_as_a_plan_holds_them():
    raw = raw_genes(SPACE, GENES)
    assert {name: (value.dtype.name, value.item()) for name, value in raw.items()} == {
        "learning_rate": ("float32", np.float32(0.01)), "momentum": ("float32", 0.0),
        "nesterov": ("int32", 1), "kernel": ("int32", 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nesterov": 1}, "nesterov has no option '1'"),
        ({"kernel": True}, "kernel has no option 'True'"),
        ({"kernel": 3.0}, "kernel has no option '3.0'"),
        ({"momentum": True}, "momentum must be from -1.0 to 1.0, got True"),
        ({"momentum": "0"}, "momentum must be"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"learning_rate": 1e300}, "learning_rate must be"),
        ({"x": 1}, "differ in x"),
    ],
)
def test_values_of_another_space_are_refused(changes, reason):
    with np.errstate(over="ignore"), pytest.raises(InputError, match=reason):
        raw_genes(SPACE, GENES | changes)


def test_only_equal_architectures_fit():
    one, same = peer("a"), peer("b")
    assert one.fits(same) and same.fits(one)
    assert not one.fits(peer(weights={"0.weight": (3, 2)}))
    assert not peer(weights={}).fits(peer(weights={}))


def test_a_node_owes_the_report_of_its_last_grant():
    one = peer()
    assert (one.name, one.busy) == ("a", False)
    one.number = 5
    assert one.busy
    one.report = report(grant=5)
    assert not one.busy
