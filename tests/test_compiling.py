import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import monitoring

from swarmjax.compiling import BRISK, QUICK, Programs, Watch, joined, quick_options


def compile_afresh(value):
    """Compiles one program, new for every value."""
    return jax.jit(lambda x: x + value).lower(np.zeros(3, np.float32)).compile()


def test_programs_are_counted_from_request_to_ready():
    told = []
    with Watch(told.append) as watch:
        compile_afresh(0.125)
        assert [(p.begun, p.ready) for p in told if p.ready or p.begun][0] == (1, 0)
        assert (watch.programs.begun, watch.programs.ready) == (1, 1)
        compile_afresh(0.25)
    assert watch.programs.ready == 2 and watch.programs.seconds > 0
    assert told[-1] == watch.programs


def test_what_is_compiled_already_or_outside_is_not_counted():
    double = jax.jit(lambda x: 2 * x)
    double(np.zeros(3, np.float32))
    with Watch() as watch:
        double(np.ones(3, np.float32))
    compile_afresh(0.375)
    assert watch.programs == Programs()


def test_programs_of_other_threads_are_counted():
    with Watch() as watch:
        threads = [threading.Thread(target=compile_afresh, args=(i + 0.75,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (watch.programs.begun, watch.programs.ready) == (4, 4)


def test_what_the_cache_had_is_told_apart(tmp_path):
    source = (
        "import jax, numpy as np\n"
        "from swarmjax.compiling import Watch\n"
        "with Watch() as watch:\n"
        "    jax.jit(lambda x: x * 3)(np.zeros(4, np.float32))\n"
        "print(watch.programs.ready, watch.programs.loaded)\n"
    )
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", source]
    shown = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [text.split() for text in shown] == [["1", "0"], ["1", "1"]]


@pytest.mark.parametrize(
    ("programs", "text"),
    [
        (
            Programs(9, 9, 2, 6.14),
            "compiling took 6.1 s in all: 9 programs large and small, 2 from the disk cache",
        ),
        (Programs(2, 1, 0, 0.0), "compiling took 0.0 s in all: 1 program"),
    ],
)
def test_the_sum_in_words(programs, text):
    assert str(programs) == text


def test_what_overlaps_counts_once_and_what_lies_between_not_at_all():
    stretches = ()
    # Two at once; then one apart; then one that began before both and outlasts them.
    for (start, end), expected in (
        ((1.0, 2.0), ((1.0, 2.0),)),
        ((1.5, 3.0), ((1.0, 3.0),)),
        ((5.0, 6.0), ((1.0, 3.0), (5.0, 6.0))),
        ((0.5, 7.0), ((0.5, 7.0),)),
    ):
        stretches = joined(stretches, start, end)
        assert stretches == expected


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12))
def test_the_sum_of_stretches_is_the_time_that_any_covers(pairs):
    spans = sorted((sorted(pair) for pair in pairs), key=lambda span: span[1])
    stretches = ()
    for start, end in spans:
        stretches = joined(stretches, start, end)
    covered = {second for start, end in spans for second in range(start, end)}
    assert sum(end - start for start, end in stretches) == len(covered)
    flat = [bound for stretch in stretches for bound in stretch]
    assert flat == sorted(flat)


def test_seconds_are_never_more_than_have_passed():
    """Eight threads that each say that they compiled for the whole time, and an hour before."""
    duration = "/jax/core/compile/backend_compile_duration"
    begun = time.perf_counter()
    with Watch() as watch:
        time.sleep(0.02)
        say = lambda: monitoring.record_event_duration_secs(duration, 3600.0)  # noqa: E731
        threads = [threading.Thread(target=say) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert watch.programs.ready == 8
    assert 0.02 <= watch.programs.seconds <= time.perf_counter() - begun


def test_quick_programs_compute_the_same():
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    square = lambda x: (x * x).cumsum()  # noqa: E731
    plain = jax.jit(square)
    for options in (QUICK, BRISK):
        quick = jax.jit(square, compiler_options=options)
        np.testing.assert_allclose(quick(x), plain(x), rtol=1e-6)


def test_options_of_one_version_are_not_given_to_another(monkeypatch):
    monkeypatch.setattr(jax, "__version_info__", (0, 99, 0))
    assert quick_options() == {"xla_backend_optimization_level": 0}
    assert quick_options(1) == {"xla_backend_optimization_level": 1}
