import jax
import pytest

from swarmjax.cnn import ConvBox
from swarmjax.cohorts import Cohorts, Costs
from swarmjax.decisions import compiling_line, devices_line, programs_line
from swarmjax.mlp import Box
from swarmjax.placement import Layout, make_mesh

COHORTS, COSTS = Cohorts({}, {}, 14.2, 101.4), Costs(8.14, 2.8e10, 1.79e-4)


def test_how_many_programs_and_why():
    reason = "(with 8.1 s to compile one, 28 GFLOP/s, 179 us for the least step)"
    reckoned = "compiling and training are reckoned to take 14 s"
    several = f"{reckoned}, and 101 s with a program each {reason}"
    assert programs_line(12, 1, COHORTS, COSTS) == (
        f"12 architectures share 1 compiled program: {several}"
    )
    assert programs_line(12, 3, COHORTS, COSTS) == (
        f"12 architectures share 3 compiled programs: {several}"
    )
    assert programs_line(3, 3, COHORTS, COSTS) == (
        f"3 architectures have a compiled program each: {reckoned} {reason}"
    )
    assert programs_line(1, 1, COHORTS, COSTS) == (
        "all networks have the same architecture and share one compiled program"
    )


def test_where_members_train_and_are_kept():
    sizes = {"state": 32 * 2**20, "data": 2**20, "lane": 88 * 2**20}
    assert devices_line(1, 2, "cpu", "one is faster", False, sizes) == (
        "training on 1 of 2 CPU devices (one is faster); memory: weights and optimizer state "
        "32 MiB, data 1 MiB, training itself 88 MiB"
    )
    assert devices_line(1, 1, "gpu", "", True, sizes) == (
        "training on 1 of 1 GPU device; memory: weights and optimizer state 32 MiB in the memory "
        "of the host, data 1 MiB, training itself 88 MiB"
    )


@pytest.mark.parametrize(
    ("container", "share", "chunk", "why", "told"),
    [
        (Box(3, 128), 1, 2, "tried", "networks padded to depth 3, width 128, trained in chunks of "
                                     "2 side by side (tried)"),
        (ConvBox(1, 8, 5), 1, 1, "", "networks padded to depth 1, width 8, kernel 5, trained one "
                                     "after the other"),
        ((("width", 8), ("kind", "a b")), 2, 1, "", "networks of width 8, kind a b, trained one "
                                                    "after the other, each on 2 devices"),
        ((), 1, 64, "", "the network, trained in chunks of 64 side by side"),
    ],
)  # fmt: skip
def test_what_is_compiled(container, share, chunk, why, told):
    layout = Layout(make_mesh(share, jax.devices()[:2]), chunk, 1)
    assert compiling_line(container, layout, why) == f"compiling a program for {told}"
