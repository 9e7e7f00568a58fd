import inspect
import re

import jax
import pytest

from swarmjax import store, types
from swarmjax.policy import keep


def test_space_is_static_and_the_rest_are_leaves(frames):
    frame = frames([0.1, 0.2])
    leaves = jax.tree.leaves(frame)
    assert len(leaves) == len(types.Frame._fields) - 4 + len(frame.metrics) + len(frame.genome)
    assert jax.jit(lambda f: f)(frame).space == frame.space
    assert len(jax.tree.leaves(keep(frame))) == len(types.Plan._fields) - 1 + len(frame.genome)


def test_a_frame_of_the_same_space_does_not_recompile(frames):
    compiled = []

    @jax.jit
    def function(frame):
        compiled.append(frame.space)
        return frame.loss

    for accuracy in ([0.1, 0.2], [0.3, 0.4]):
        function(frames(accuracy))
    assert len(compiled) == 1


def test_input_error_is_a_value_error():
    assert issubclass(types.InputError, ValueError)


@pytest.mark.parametrize("record", [types.Plan, types.Frame, types.Policy, store.Status])
def test_every_field_is_documented_in_order(record):
    documented = re.findall(r"^ {4}(\w+): ", inspect.getdoc(record), re.MULTILINE)
    assert documented == list(record._fields)


@pytest.mark.parametrize("record", [types.Plan, types.Frame])
def test_array_fields_say_their_shape(record):
    described = dict(re.findall(r"^ {4}(\w+): (.*)$", inspect.getdoc(record), re.MULTILINE))
    for name in set(record._fields) - {"space", "genome"}:
        assert re.match(r"(name -> )?`\[(N(, [A-Z])*)?\]`", described[name]), name
