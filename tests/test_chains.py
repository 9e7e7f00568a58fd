"""What policies are found to do, and which chains of them cannot work."""

import jax.numpy as jnp
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import presets
from swarmjax.chains import check_order, grants_evenly, oddities, trace
from swarmjax.policy import leaves, stateless
from swarmjax.types import InputError, Policy

nan = np.nan
uniform = sj.allocate.uniform


@pytest.fixture(scope="module")
def first(frames):
    """A Frame before anything was trained."""
    return frames([nan] * 6, round=0, birth=[-1] * 6)


def traced(frame, *policies):
    return [trace(leaf, frame) for policy in policies for leaf in leaves(policy)]


def boost():
    return stateless(lambda key, plan, frame: plan._replace(steps=plan.steps * 2), "boost()")


def anything():
    return Policy(lambda frame: (), lambda *given: given[1::2], "anything()", host=True)


@pytest.mark.parametrize(
    ("policy", "writes"),
    [
        (uniform(), {"steps"}),
        (sj.exploit(), {"parent", "mate", "operator", "fresh", "genome"}),
        (sj.perturb(), {"genome"}),
        (sj.breed(), {"mate", "operator", "genome"}),
        (sj.allocate.devices(), {"devices"}),
        (sj.successive_halving(), {"steps"}),
        (sj.sobol(), {"genome"}),
        (sj.bandit(), {"genome"}),
        (stateless(lambda key, plan, frame: plan, "idle()"), set()),
        (anything(), None),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_what_a_policy_writes(first, policy, writes):
    assert trace(policy, first).writes == writes


@pytest.mark.parametrize(
    ("policies", "even"),
    [
        ((uniform(),), True),
        ((presets.pbt(),), True),
        ((sj.successive_halving(), uniform(), sj.perturb()), True),
        ((presets.successive_halving(),), True),
        ((presets.swarm(),), False),
        ((presets.hyperband(),), False),
        ((uniform(), boost()), False),
        ((uniform(), anything()), False),
        ((sj.perturb(),), False),
    ],
    ids=lambda given: given if isinstance(given, bool) else ", ".join(p.name for p in given),
)
def test_who_grants_last_decides_whether_all_get_as_many_steps(first, policies, even):
    assert grants_evenly(traced(first, *policies)) == even


def test_what_a_policy_reads(first):
    assert "plan.steps" in trace(boost(), first).reads
    assert {"frame.metrics", "plan.parent"} <= trace(sj.softmax(), first).reads
    blind = trace(uniform(), first).reads
    assert "frame.quota" in blind and "frame.metrics" not in blind and "plan.steps" not in blind


def test_who_returns_no_plan_is_refused(first):
    def turned(plan):
        return plan._replace(steps=plan.steps.astype(jnp.float32))

    with pytest.raises(InputError, match="turns plan.steps from int32.* into float32"):
        trace(stateless(lambda key, plan, frame: turned(plan), "f()"), first)
    with pytest.raises(InputError, match="must return a Plan"):
        trace(stateless(lambda key, plan, frame: None, "n()"), first)  # pyright: ignore


@pytest.mark.parametrize(
    "policies",
    [
        *([preset()] for preset in presets.PRESETS.values()),
        [uniform(), sj.exploit(), sj.perturb(), sj.breed(), sj.mutate()],
        [sj.niches("depth"), sj.lineage_cap(2), sj.heal(), uniform(), sj.breed("union")],
        [sj.exploit(), sj.optuna_sampler(), sj.successive_halving(), boost()],
        [sj.perturb(), anything()],
        [anything(), sj.perturb()],
    ],
    ids=lambda policies: "+".join(p.name.partition("(")[0] for p in policies),
)
def test_what_is_legal_is_let_be(first, policies):
    links = traced(first, *policies)
    check_order(links, units=True)
    assert oddities(links, rounds=2) == []


@pytest.mark.parametrize("link", [sj.perturb(), sj.breed(), sj.mutate(), sj.bandit()])
def test_who_changes_children_stands_behind_whoever_makes_them(first, link):
    links = traced(first, link, sj.exploit(), uniform())
    name = link.name.partition("(")[0]
    with pytest.raises(InputError, match=f"{name} changes only .* before exploit.*; put it behind"):
        check_order(links, units=True)


def test_a_cap_makes_no_children_of_its_own(first):
    with pytest.raises(InputError, match="lineage_cap changes only members .* before tournament"):
        check_order(traced(first, sj.lineage_cap(2), sj.tournament(), uniform()), units=True)


def test_an_ablation_without_children_is_legal_and_told(first):
    links = traced(first, uniform(), sj.perturb())
    check_order(links, units=True)
    assert oddities(links, 9) == [
        "perturb changes nothing: no policy lets anybody take over another's weights"
    ]


@pytest.mark.parametrize("policies", [[sj.exploit(), sj.perturb()], [sj.exploit(), sj.bandit()]])
def test_somebody_must_grant_steps(first, policies):
    with pytest.raises(InputError, match="no policy of exploit, .* grants steps, so nobody would"):
        check_order(traced(first, *policies), units=True)


def test_units_are_needed_only_by_who_matches_them(first):
    for operator, fine in (("average", True), ("aligned", False), ("union", False)):
        links = traced(first, sj.exploit(), uniform(), sj.breed(operator))
        check_order(links, units=True)
        if fine:
            check_order(links, units=False)
        else:
            with pytest.raises(InputError, match=f"{operator}.* needs the units"):
                check_order(links, units=False)


def test_grants_that_are_overwritten_are_told(first):
    links = traced(first, sj.softmax(), boost(), sj.exploit(), uniform())
    assert oddities(links, 9) == ["the steps that boost grants are overwritten by uniform"]
    assert oddities(traced(first, uniform(), boost()), 9) == []


@pytest.mark.parametrize(
    ("policy", "late"),
    [
        (presets.pbt(), "exploit"),
        (presets.swarm(), "exploit, softmax"),
        (presets.successive_halving(), "successive_halving"),
        (presets.random_search(), None),
        (presets.grid_search(), None),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_with_one_round_nobody_can_be_selected(first, policy, late):
    links = traced(first, policy)
    told = oddities(links, 1)
    assert oddities(links, 2) == []
    assert len(told) == (late is not None) and (not late or f"before {late} can tell" in told[0])
