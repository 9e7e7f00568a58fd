import contextlib
import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings

from paper import brokers
from paper.measure import MissingData
from swarmjax import resources, space
from swarmjax.policy import check_plan, keep
from swarmjax.types import Frame

# Before any backend is used: laws about devices are tested on eight of them.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Runs share compiled programs within a session, and nothing is left in or taken from the user's.
_CACHE = tempfile.TemporaryDirectory(prefix="swarmjax-tests-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
os.environ["XDG_CACHE_HOME"] = _CACHE.name
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# These files take longest: they begin first, browsers apart from each other, and the others fill
# in behind them.
_FIRST = ("test_dashboard", "test_islands", "test_run", "test_accessible_page", "test_evolve")
_FIRST += ("test_steered_page",)


def pytest_collection_modifyitems(items):
    order = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    # Browsers, brokers and islands are waited for: one worker more than there are cores.
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(asked) if asked else resources.cores() + 1


SPACE = space.Space(
    learning_rate=space.log_uniform(1e-4, 1e-1),
    momentum=space.uniform(-1.0, 1.0),
    activation=space.choice("relu", "gelu", "silu", "tanh"),
    depth=space.structure(1, 2, 3),
    width=space.structure(16, 32, 64, 128),
)


def make_frame(accuracy, **changes) -> Frame:
    """A Frame after one round; `accuracy` `[N]`, NaN where not evaluated, sets the metrics."""
    accuracy = jnp.asarray(accuracy, jnp.float32)
    members = accuracy.shape[0]
    own = jnp.arange(members, dtype=jnp.int32)
    searched = changes.get("space", SPACE)
    frame = Frame(
        round=jnp.int32(1),
        quota=jnp.int32(1000),
        remaining=jnp.int32(10_000),
        loss=1.0 - accuracy,
        metrics={"valid_accuracy": accuracy, "valid_loss": 1.0 - accuracy},
        gradient_norm=jnp.ones(members),
        steps=jnp.full(members, 10, jnp.int32),
        total_steps=jnp.full(members, 10, jnp.int32),
        alive=jnp.ones(members, bool),
        alarm=jnp.zeros(members, jnp.int32),
        cost=jnp.full(members, 1e6),
        parameters=jnp.full(members, 1000, jnp.int32),
        bytes=jnp.full(members, 12_000.0),
        seconds=jnp.full(members, 1e-3),
        descriptor=jnp.full((members, 4, 2), 0.5, jnp.float16),
        genome=searched.sample(jax.random.key(7), members),
        birth=own,
        lineage=own,
        space=searched,
    )
    for field, value in changes.items():
        if field not in ("space", "metrics", "genome"):
            changes[field] = jnp.asarray(value, getattr(frame, field).dtype)
    return frame._replace(**changes)


def decide(policy, frame, seed=0, plan=None):
    """The Plan of `policy`, checked: legal, and of the same shapes and types as before."""
    plan = keep(frame) if plan is None else plan
    after, _ = policy.update(jax.random.key(seed), plan, frame, policy.init(frame))
    assert jax.tree.structure(after) == jax.tree.structure(plan)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(plan), strict=True):
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
    check_plan(jax.device_get(after), frame)
    return jax.device_get(after)


def assert_jit_agrees(policy, frames):
    """The compiled policy decides as the plain one, with the dead and unknown, and before."""
    update = jax.jit(policy.update)
    accuracy, alive = [0.5, np.nan, 0.3, 0.9, np.nan], [True, False, True, True, True]
    for changes in ({"alive": alive}, {"alive": [False] * 5}, {"round": 0}):
        frame = frames(accuracy, **changes)
        traced, _ = update(jax.random.key(3), keep(frame), frame, policy.init(frame))
        plain = decide(policy, frame, seed=3)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), traced, plain)


@pytest.fixture(scope="session")
def frames():
    return make_frame


@pytest.fixture(scope="session", name="decide")
def decide_fixture():
    return decide


@pytest.fixture(scope="session", name="assert_jit_agrees")
def assert_jit_agrees_fixture():
    return assert_jit_agrees


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory):
    """A RabbitMQ server of the tests' own."""
    try:
        server = brokers.RabbitMQ(tmp_path_factory.mktemp("rabbit"))
    except MissingData as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))
    with contextlib.closing(server):
        yield server


@pytest.fixture(scope="session")
def kafka():
    """The URL of a server that speaks Kafka's protocol."""
    with brokers.mock_kafka() as url:
        yield url


@pytest.fixture
def closed_directory():
    """A directory in which this process may not write, even if it runs as root."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        try:
            if user == 0:
                os.seteuid(65534)
            yield Path(folder)
        finally:
            if user == 0:
                os.seteuid(0)
            os.chmod(folder, 0o755)
