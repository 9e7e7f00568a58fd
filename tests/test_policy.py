import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax.policy import (
    PlanError,
    chain,
    check_plan,
    children,
    culprit,
    generator,
    guarded,
    keep,
    leaves,
    slots,
    stateless,
)
from swarmjax.types import Policy

nan = np.nan


def counting(name):
    def update(key, plan, frame, state):
        draw = jax.random.randint(key, plan.steps.shape, 0, 1000)
        return plan._replace(steps=plan.steps * 1000 + draw), state + 1

    return Policy(lambda frame: jnp.int32(0), update, name)


def test_keep_carries_on(frames):
    frame = frames([0.1, nan, 0.3], alive=[True, False, True])
    plan = keep(frame)
    assert plan.parent.tolist() == plan.mate.tolist() == slots(frame).tolist() == [0, 1, 2]
    assert plan.steps.tolist() == plan.operator.tolist() == [0, 0, 0]
    assert plan.devices.tolist() == [1, 1, 1]
    assert not plan.fresh.any()
    assert all(plan.genome[name] is frame.genome[name] for name in frame.genome)
    check_plan(plan, frame)


def test_chain_keys_states_and_name(frames):
    frame, key = frames([0.1, 0.2]), jax.random.key(3)
    policy = chain(counting("a"), counting("b"))
    assert policy.name == "chain(a, b)"
    state = policy.init(frame)
    plan, state = policy.update(key, keep(frame), frame, state)
    plan_again, state = policy.update(key, keep(frame), frame, state)
    assert state == (2, 2)
    np.testing.assert_array_equal(plan.steps, plan_again.steps)
    draws = [jax.random.randint(jax.random.fold_in(key, i), (2,), 0, 1000) for i in (0, 1)]
    np.testing.assert_array_equal(plan.steps, draws[0] * 1000 + draws[1])


def test_dropping_a_last_link_leaves_the_others_alone(frames):
    frame, key = frames([0.1, 0.2]), jax.random.key(3)
    one, two = chain(counting("a")), chain(counting("a"), stateless(lambda k, p, f: p, "none"))
    plans = [p.update(key, keep(frame), frame, p.init(frame))[0] for p in (one, two)]
    np.testing.assert_array_equal(plans[0].steps, plans[1].steps)


def test_empty_and_nested_chains(frames):
    frame = frames([0.1, 0.2])
    nothing = chain(chain(), chain(chain()))
    plan, state = nothing.update(jax.random.key(0), keep(frame), frame, nothing.init(frame))
    assert state == ((), ((),))
    assert plan.steps.tolist() == [0, 0]


def ints(*values):
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("parent", ints(0, 3, 2), r"plan.parent: member 1 has 3, which must be a slot below 3"),
        ("parent", ints(0, -1, 2), r"plan.parent: member 1 has -1"),
        ("parent", ints(1, 1, 2), r"plan.parent: member 0 has 1, which is dead"),
        ("mate", ints(0, 1, 1), r"plan.mate: member 2 has 1, which is dead"),
        ("operator", ints(0, 0, -2), r"plan.operator: member 2 has -2"),
        ("operator", ints(0, 0, 99), r"plan.operator: member 2 has 99, which must be below \d+: "),
        ("operator", ints(0, 4, 0), r"plan.mate: member 1 has 1, which is dead"),
        ("steps", ints(1, -5, 2), r"plan.steps: member 1 has -5, which must be at least 0"),
        ("steps", ints(1000, 0, 1), r"plan.steps: 1001 steps granted, but the quota is 1000"),
        ("steps", np.full(3, 2**31 - 1, np.int32), r"steps granted, but the quota is 1000"),
        ("steps", np.array([1.0, nan, 2.0]), r"plan.steps: must hold integers, got float64"),
        ("steps", ints(1, 2), r"plan.steps: shape must be \(3,\), got \(2,\)"),
        ("steps", np.int32(1), r"plan.steps: shape must be \(3,\), got \(\)"),
        ("devices", ints(1, 1, 0), r"plan.devices: member 2 has 0, which must be at least 1"),
        ("fresh", ints(0, 0, 1), r"plan.fresh: must hold booleans, got int32"),
    ],
)
def test_check_plan_names_field_member_and_value(frames, field, value, message):
    frame = frames([0.1, nan, 0.3], alive=[True, False, True])
    with pytest.raises(PlanError, match=message):
        check_plan(keep(frame)._replace(**{field: value}), frame)


@pytest.mark.parametrize(
    ("gene", "value", "message"),
    [
        ("learning_rate", [1e-3, nan, 1e-3], r"genome\[learning_rate\]: member 1 has nan"),
        ("learning_rate", [1e-3, 1e-3, 1.0], r"genome\[learning_rate\]: member 2 has 1.0"),
        ("depth", [0, 1, 3], r"genome\[depth\]: member 2 has 3, which is not a value of"),
        ("depth", [0.5, 1, 2], r"genome\[depth\]: member 0 has 0.5"),
        ("depth", [0, 1], r"genome\[depth\]: shape must be \(3,\), got \(2,\)"),
    ],
)
def test_check_plan_checks_every_gene(frames, gene, value, message):
    frame = frames([0.1, 0.2, 0.3])
    genome = keep(frame).genome | {gene: np.array(value)}
    with pytest.raises(PlanError, match=message):
        check_plan(keep(frame)._replace(genome=genome), frame)


def test_check_plan_wants_exactly_the_genes(frames):
    frame = frames([0.1, 0.2])
    genome = dict(keep(frame).genome)
    for wrong in (genome | {"extra": ints(0, 0)}, {k: genome[k] for k in genome if k != "depth"}):
        with pytest.raises(PlanError, match="differs in (extra|depth)"):
            check_plan(keep(frame)._replace(genome=wrong), frame)


def test_the_dead_may_start_fresh_or_stay(frames):
    frame = frames([nan, 0.2], alive=[False, True])
    fresh = np.array([False, True])
    check_plan(keep(frame)._replace(parent=ints(0, 0), fresh=fresh), frame)


def host_adding(name, amount=1, kind=np.int32):
    """A policy on the host that adds to the steps, counts its calls and saves what it was given."""
    seen = []

    def update(key, plan, frame, state):
        seen.append((plan, frame, generator(key).random()))
        return plan._replace(steps=plan.steps + kind(amount)), state + 1

    return Policy(lambda frame: np.int32(0), update, name, host=True), seen


def test_a_chain_with_a_host_policy_decides_as_one_without(frames):
    frame, key = frames([0.1, nan, 0.3]), jax.random.key(3)

    def add(key, plan, frame):
        return plan._replace(steps=plan.steps + 1)

    host, seen = host_adding("add")
    chains = [
        chain(counting("a"), counting("b"), middle, counting("c")) for middle in
        (host, stateless(add, "add"))
    ]  # fmt: skip
    assert [policy.host for policy in chains] == [True, False]
    mixed, pure = (p.update(key, keep(frame), frame, p.init(frame)) for p in chains)
    jax.tree.map(np.testing.assert_array_equal, mixed[0], pure[0])
    assert mixed[1] == (1, 1, 1, 1)
    plan, shown, _ = seen[0]
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves((plan, shown)))


def test_pure_stretches_are_compiled_once_and_host_policies_never_traced(frames):
    traces = []

    def note(key, plan, frame):
        traces.append(isinstance(plan.steps, jax.core.Tracer))
        return plan

    host, seen = host_adding("add")
    policy = chain(stateless(note, "n"), chain(stateless(note, "n"), host), stateless(note, "n"))
    frame = frames([0.1, 0.2])
    for seed in (1, 2, 1):
        policy.update(jax.random.key(seed), keep(frame), frame, policy.init(frame))
    assert traces == [True, True, True]
    draws = [draw for _, _, draw in seen]
    assert draws[0] == draws[2] != draws[1]


def test_a_host_policy_returns_the_types_it_got(frames):
    frame = frames([0.1, 0.2])
    wide, _ = host_adding("wide", kind=np.int64)
    policy = chain(wide)
    plan, _ = policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))
    assert plan.steps.dtype == np.int32
    real, _ = host_adding("real", 0.5, np.float32)
    policy = chain(real)
    with pytest.raises(PlanError, match="policy real returns no Plan like the one it got"):
        policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))


def test_a_chain_is_taken_apart():
    (a, _), (b, _) = host_adding("a"), host_adding("b")
    policy = chain(counting("x"), chain(a, counting("y")), b)
    assert [leaf.name for leaf in leaves(policy)] == ["x", "a", "y", "b"]
    assert leaves(a) == [a]


def test_what_a_lone_policy_on_the_host_returns_is_looked_after(frames):
    frame, (wide, _) = frames([0.1, 0.2]), host_adding("wide", kind=np.int64)
    policy = guarded(wide)
    plan, _ = policy.update(jax.random.key(0), keep(frame), frame, policy.init(frame))
    assert plan.steps.dtype == np.int32
    pure = counting("x")
    assert guarded(pure) is pure


def test_children_take_over_anothers_weights(frames):
    plan = keep(frames([0.1, 0.2, 0.3]))._replace(
        parent=ints(1, 0, 2), fresh=np.array([False, True, False])
    )
    assert children(plan).tolist() == [True, False, False]
    assert children(jax.tree.map(np.asarray, plan)).tolist() == [True, False, False]


def test_on_the_host_nothing_is_compiled_to_keep_a_frame(frames):
    frame = jax.tree.map(np.asarray, frames([0.1, 0.2]))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(keep(frame)))


def test_who_in_a_chain_made_an_illegal_plan_is_found(frames):
    def grant(steps, slot=0):
        def rule(key, plan, frame):
            return plan._replace(steps=jnp.asarray(plan.steps).at[slot].set(steps))

        return stateless(rule, f"grant({steps})")

    frame = frames([0.1, 0.2])
    blamed = lambda policy: culprit(  # noqa: E731
        policy, jax.random.key(0), frame, policy.init(frame)
    )
    wrong, right = grant(-1), grant(3)
    assert blamed(chain(right, chain(grant(4, 1), wrong), grant(5, 1))) == "grant(-1)"
    assert blamed(chain(wrong, right)) == "", "it was put right"
    assert blamed(chain(wrong, grant(10**6))) == "grant(-1)", "who came first"
    assert blamed(wrong) == "grant(-1)"
