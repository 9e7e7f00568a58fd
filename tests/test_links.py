import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax.links import LINKS, parse_policy
from swarmjax.presets import PRESETS
from swarmjax.types import InputError

# Links with a setting that must be given.
NEEDY = {"optuna_sampler", "niches", "lineage_cap", "proportional"}


def test_the_same_text_is_the_same_policy():
    """So that a second run of it compiles nothing of it."""
    assert parse_policy("swarm") is parse_policy("swarm") is not parse_policy("pbt")
    goal = lambda frame: frame.loss  # noqa: E731
    assert parse_policy("pbt", goal) is parse_policy("pbt", goal) is not parse_policy("pbt")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_read_by_its_name_and_again_by_what_it_is_called(name):
    policy = parse_policy(name)
    assert policy.name == sj.preset(name).name == parse_policy(policy.name).name


@pytest.mark.parametrize("name", sorted(LINKS.keys() - NEEDY))
def test_a_link_is_called_by_its_own_name(name):
    policy = parse_policy(f"{name}()")
    assert policy.name.startswith(f"{name}(") and policy.name == LINKS[name]().name


def test_a_chain_is_read_with_its_settings():
    policy = parse_policy("tournament(size=3), rank(1.2), sobol, mutate('noise', probability=0.25)")
    made = sj.chain(
        sj.tournament(size=3), sj.allocate.rank(1.2), sj.sobol(), sj.mutate("noise", 0.25)
    )
    assert policy.name == made.name
    assert parse_policy(" chain(niches('depth', bins=2), lineage_cap(4), uniform) ").name == (
        sj.chain(sj.niches("depth", bins=2), sj.lineage_cap(4), sj.allocate.uniform()).name
    )
    # One word with no preset of its name is a chain of one link.
    assert parse_policy("uniform").name == sj.allocate.uniform().name


def test_every_link_that_looks_at_a_goal_pursues_it():
    goal = sj.weighted(accuracy=1.0, efficiency=0.5)
    policy = parse_policy("exploit, softmax, proportional, perturb", goal)
    assert policy.name.count(goal.__name__) == 3
    assert parse_policy("pbt", goal).name == sj.preset("pbt", goal).name
    # Its own weights are a goal already.
    own = parse_policy("exploit, proportional(accuracy=2.0)", goal)
    assert own.name.count(goal.__name__) == 1 and "accuracy=2.0" in own.name
    with pytest.raises(InputError, match="no link of the policy uniform, random looks at a goal"):
        parse_policy("uniform, random", goal)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pbtt", "no policy is called 'pbtt'; did you mean pbt"),
        ("exploit, softmaxx", "no link is called 'softmaxx'; did you mean softmax"),
        ("exploit(", "cannot be read"),
        ("", "cannot be read"),
        ("exploit; softmax", "cannot be read"),
        ("exploit, x=1", "cannot be read"),
        ("exploit," * 1000, "cannot be read"),
        ("(" * 1500, "cannot be read"),
        ("exploit, pbt", "no link is called 'pbt'"),
        ("exploit.softmax, rank", "link 1 of the policy is no name"),
        ("exploit)+(softmax", "cannot be read"),
        ("exploit], [softmax", "cannot be read"),
        ("exploit][0", "cannot be read"),
        ("exploit] + [rank", "cannot be read"),
        ("-" * 1500 + "a", "cannot be read|is no name"),
        ("exploit(" + "-" * 1500 + "1)", "cannot be read|no number"),
        ("a" + ".b" * 900, "is no name"),
        ("exploit(" + "1+" * 800 + "1)", "cannot be read|no number"),
        ("exploit(fraction=0.2, fraction=0.5)", "cannot be read|twice"),
        ("exploit(**{'a': 1}, **{'b': 2})", "twice"),
        ("chain(exploit, goal=1)", "cannot be read"),
        ("chain()", "cannot be read"),
        ("softmax(goal='accuracy=1')", "given for all links together"),
        ("exploit(fraction=__import__('os')), rank", "no number, text or list"),
        ("exploit(*[1]), rank", "no number, text or list"),
        ("exploit(**{}), rank", "exploit cannot have these settings"),
        ("devices(top='a')", "whole number"),
        ("successive_halving(rungs=700)", "rungs"),
        ("niches('depth', bins=10**10)", "no number"),
        ("niches('depth', bins=10000000000)", "bins"),
        ("tournament(size=10000000)", "size"),
        ("exploit(size=3), rank", "exploit cannot have these settings: .*size"),
        ("exploit(fraction=2.0), rank", "fraction"),
        ("rank(pressure='high'), random", "rank cannot have these settings"),
        ("[exploit], rank", "link 1 of the policy is no name"),
    ],
)
def test_what_is_no_policy_is_refused_in_a_line(text, said):
    with pytest.raises(InputError, match=said) as refused:
        parse_policy(text)
    assert "\n" not in str(refused.value)


@given(
    st.text(max_size=40) | st.from_regex(r"[a-z_]{2,9}\([a-z0-9=,'.\[\]-]{0,12}\)", fullmatch=True)
)
def test_any_text_is_a_policy_or_an_input_error(text):
    try:
        assert parse_policy(text).name
    except InputError:
        pass


def test_every_public_link_can_be_written():
    """What `sj` offers and returns a Policy, but for what makes one of others."""
    offered = {name: getattr(sj, name) for name in sj.__all__} | vars(sj.allocate)
    makers = {
        name
        for name, value in offered.items()
        if inspect.isfunction(value) and inspect.signature(value).return_annotation == "Policy"
    }
    assert makers - {"chain", "preset", "stateless"} - {n for n in makers if n[0] == "_"} == set(
        LINKS
    )
