"""Random search spaces, of one to five genes of every kind."""

import hypothesis.strategies as st

from swarmjax import space

ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(
    lambda pair: space.uniform(pair[0], pair[0] + pair[1])
)
log_ranges = st.tuples(st.floats(1e-8, 1e3), st.floats(1.01, 1e6)).map(
    lambda pair: space.log_uniform(pair[0], pair[0] * pair[1])
)
choices = st.integers(1, 5).map(lambda k: space.choice(*range(k)))
structures = st.integers(1, 5).map(lambda k: space.structure(*range(k)))
spaces = st.lists(ranges | log_ranges | choices | structures, min_size=1, max_size=5).map(
    lambda genes: space.Space(**{f"gene{i}": gene for i, gene in enumerate(genes)})
)
