import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import descent, mlp, optimizers
from swarmjax.crossover import OPERATORS
from swarmjax.members import Recipe
from swarmjax.policy import PlanError
from swarmjax.swarm import empty_swarm
from swarmjax.types import Plan

SPACE = sj.Space(learning_rate=sj.log_uniform(1e-4, 1.0), width=sj.structure(8, 16))
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 5, 3), optimizers.for_space(SPACE))
# Of a model that knows no units, so that a child of another width cannot go on from its parent.
PLAIN = RECIPE._replace(family=RECIPE.family._replace(sizes=None))
BOXES = {(("width", width),): mlp.Box(1, width) for width in (8, 16)}
OWN = np.arange(4, dtype=np.int32)
KINDS = st.lists(st.integers(0, 2), min_size=6, max_size=6)


def genome(width):
    rate = np.full(len(width), 0.1, np.float32)
    return {"learning_rate": rate, "width": np.asarray(width, np.int32) // 16}


def plan(genes, parent=OWN, mate=OWN, operator="clone", fresh=()):
    return Plan(
        parent=np.asarray(parent, np.int32), mate=np.asarray(mate, np.int32),
        operator=np.full(4, OPERATORS.index(operator), np.int32), steps=OWN * 0,
        devices=OWN * 0 + 1, fresh=np.isin(OWN, fresh), genome=genes,
    )  # fmt: skip


WIDTHS = genome([8, 8, 16, 16])


def test_a_child_is_newborn_and_the_same_as_its_parent_only_in_a_like_network():
    line = descent.descent(RECIPE, WIDTHS, plan(WIDTHS, parent=[0, 0, 0, 3], fresh=[3]))
    assert line.newborn.tolist() == [False, True, True, True]
    assert line.same.tolist() == [True, True, False, False]
    assert line.parent.tolist() == [0, 0, 0, 3]


def test_a_mate_of_another_size_counts_only_where_networks_are_resized():
    asked = plan(WIDTHS, mate=[1, 2, 2, 2], operator="average")
    assert descent.descent(RECIPE, WIDTHS, asked).mate.tolist() == [1, 2, 2, 2]
    line = descent.descent(PLAIN, WIDTHS, asked)
    assert line.mate.tolist() == [1, 1, 2, 2] and line.newborn.all()


def test_what_knows_no_units_is_not_bred_by_them():
    operator = np.asarray([0, OPERATORS.index("union"), 0, 0])
    descent.check_operators(RECIPE, operator)
    with pytest.raises(PlanError, match=r"plan\.operator: member 1 has union"):
        descent.check_operators(PLAIN, operator)


def test_the_newborn_take_the_next_numbers():
    born = np.asarray([True, False, True, False])
    assert descent.numbered(np.asarray([4, 5, 6, 7]), 8, born).tolist() == [8, 5, 9, 7]


def test_a_first_plan_puts_everyone_into_the_container_of_its_architecture():
    made = descent.change(RECIPE, BOXES, empty_swarm(4), WIDTHS, plan(WIDTHS, fresh=OWN), None)
    assert [made.containers[kind].width for kind in made.kind] == [8, 8, 16, 16]
    assert made.birth.tolist() == [0, 1, 2, 3] and made.newborn.all() and not made.same.any()


@given(KINDS, KINDS, st.data())
def test_whoever_stays_keeps_its_row_and_the_others_take_the_lowest_free_ones(before, after, data):
    slots = np.arange(6)
    rows = np.asarray(data.draw(st.permutations(range(6))), np.int32)
    nobody = np.zeros(6, np.int32)
    change = descent.Change(
        slots, slots, nobody, (), np.asarray(after), nobody, *[np.zeros(6, bool)] * 3, slots, {}, {}
    )  # fmt: skip
    made = descent.rows(np.asarray(before), rows, change)
    stays = np.asarray(before) == np.asarray(after)
    assert made[stays].tolist() == rows[stays].tolist()
    for kind in set(after):
        mine = np.asarray(after) == kind
        kept, came = set(made[mine & stays].tolist()), made[mine & ~stays].tolist()
        free = [row for row in range(12) if row not in kept]
        assert sorted(came) == free[: len(came)]
