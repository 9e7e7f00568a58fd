"""One directive of every kind, and random ones that may be right or wrong for a swarm."""

import hypothesis.strategies as st

from swarmjax import steering as s

ONE, OTHER = s.Member(3, 17), s.Member(5, 5)
ALL = [
    s.Pause(),
    s.Resume(),
    s.Stop(),
    s.Boost(ONE, 4.0),
    s.Freeze(ONE),
    s.Thaw(ONE),
    s.Pin(ONE),
    s.Unpin(ONE),
    s.Kill(ONE),
    s.Clone(ONE, OTHER),
    s.Breed(ONE, OTHER, "uniform"),
    s.Set(ONE, {"learning_rate": 0.01, "activation": "relu", "depth": 2}),
    s.Turn({"goal.accuracy": 0.5, "softmax.temperature": None}),
    s.Add(2, {"learning_rate": 0.01}),
    s.Note("a remark", ONE),
    s.Undo(7),
]


def any_of(members, genes, dials):
    """Directives of every kind for so many slots, whose births are mostly the slots themselves.

    Args:
        members: slots there are; some directives name others.
        genes: gene -> values to try, legal or not.
        dials: name -> values to try.
    """
    slots = st.integers(0, members)
    networks = slots.flatmap(
        lambda slot: st.sampled_from([slot] * 4 + [slot + members, 0]).map(
            lambda birth: s.Member(slot, birth)
        )
    )
    values = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in genes.items()})
    turned = st.dictionaries(
        st.sampled_from(sorted(dials)), st.sampled_from([None, -1.0, 0.0, 0.5, 2.0]), min_size=1
    )
    single = [s.Freeze, s.Thaw, s.Pin, s.Unpin, s.Kill]
    return st.one_of(
        *(st.builds(kind, networks) for kind in single),
        st.builds(s.Boost, networks, st.sampled_from([1.0, 2.0, 16.0])),
        st.builds(s.Clone, networks, st.none() | networks),
        st.builds(
            s.Breed, networks, networks, st.sampled_from(["average", "union", "no"]),
            st.none() | networks,
        ),
        st.builds(s.Set, networks, values),
        st.builds(s.Turn, turned),
        st.builds(s.Add, st.integers(1, members + 1), values),
        st.builds(s.Note, st.text(min_size=1, max_size=20), st.none() | networks),
        st.builds(s.Undo, st.integers(1, 1100)),
        st.sampled_from([s.Pause(), s.Resume()]),
    )  # fmt: skip
