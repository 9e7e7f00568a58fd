import numpy as np

from swarmjax.swarm import empty_swarm


def test_nobody_lives_in_an_empty_swarm():
    swarm = empty_swarm(3)
    assert (swarm.cohorts, swarm.containers, swarm.births) == ({}, (), 0)
    for column in (swarm.kind, swarm.row, swarm.birth, swarm.lineage):
        assert column.tolist() == [-1, -1, -1]
    assert swarm.step.tolist() == [0, 0, 0]


def test_a_slot_is_found_by_its_container_and_row():
    swarm = empty_swarm(2)._replace(
        containers=("narrow", "wide"), kind=np.asarray([1, 0]), row=np.asarray([4, 2])
    )
    assert [swarm.place(slot) for slot in (0, 1)] == [("wide", 4), ("narrow", 2)]
