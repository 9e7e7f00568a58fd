import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import tasks
from swarmjax.tasks import TASKS, Data, accuracy, arrays, cross_entropy, measure, r2, squared_error
from swarmjax.types import InputError

# Training, validation and test examples, shape of an input, classes.
SHAPES = {
    "digits": (1078, 360, 359, (64,), 10),
    "digits-noisy": (1078, 360, 359, (64,), 10),
    "spirals": (1800, 600, 600, (2,), 3),
    "teacher": (4096, 8192, 8192, (16,), 8),
}


@pytest.fixture(scope="module")
def built():
    return {name: make() for name, make in TASKS.items()}


def splits(task):
    return (task.train, task.valid, task.test)


@pytest.mark.parametrize("name", SHAPES)
def test_built_in_tasks(built, name):
    task = built[name]
    *lengths, shape, classes = SHAPES[name]
    assert (task.name, task.outputs, task.batch) == (name, classes, 64)
    assert (task.loss, dict(task.metrics)) == (cross_entropy, {"accuracy": accuracy})
    for (x, y), length in zip(splits(task), lengths, strict=True):
        assert (x.shape, x.dtype) == ((length, *shape), np.float32)
        assert (y.shape, y.dtype) == ((length,), np.int32)
        assert set(np.unique(y)) == set(range(classes)), "every class in every split"
        assert abs(x).max() < 10


@pytest.mark.parametrize("name", SHAPES)
def test_built_in_tasks_are_the_same_every_time(built, name):
    for first, again in zip(splits(built[name]), splits(TASKS[name]()), strict=True):
        np.testing.assert_array_equal(first.x, again.x)
        np.testing.assert_array_equal(first.y, again.y)


def test_the_splits_share_no_example(built):
    for name in ("digits", "spirals", "teacher"):
        rows = np.concatenate([x for x, _ in splits(built[name])])
        assert len(np.unique(rows, axis=0)) == len(rows)


def test_digits_are_those_of_scikit_learn(built):
    from sklearn.datasets import load_digits

    given, task = load_digits(), built["digits"]
    parts = [part for part in (task.train, task.valid, task.test) if part is not None]
    mine = np.concatenate([np.column_stack([part.x * 16.0, part.y]) for part in parts])
    theirs = np.column_stack([given.data, given.target])
    np.testing.assert_array_equal(np.unique(mine, axis=0), np.unique(theirs, axis=0))
    assert len(mine) == len(theirs)


def test_digits_noisy_differs_from_digits_in_training_labels_only(built):
    clean, noisy = built["digits"], built["digits-noisy"]
    for one, other in zip(splits(clean), splits(noisy), strict=True):
        np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(clean.valid.y, noisy.valid.y)
    np.testing.assert_array_equal(clean.test.y, noisy.test.y)
    changed = clean.train.y != noisy.train.y
    # A redrawn label is the old one again in one case of ten.
    assert 0.15 < changed.mean() <= round(0.2 * 1078) / 1078
    assert len(np.unique(noisy.train.y[changed])) == 10


def test_spirals_are_three_arms_in_the_unit_disc(built):
    x, y = built["spirals"].train
    radius = np.hypot(*x.T)
    assert radius.max() < 1.2
    angle = np.arctan2(x[:, 1], x[:, 0]) - 3.0 * np.pi * radius - y * 2.0 * np.pi / 3.0
    off = abs(np.angle(np.exp(1j * angle)))[radius > 0.5]
    assert np.quantile(off, 0.9) < 2.0 * np.pi / 6.0, "its own arm is the nearest one"


def test_integer_targets_make_a_classification():
    x = np.arange(20).reshape(10, 2)
    y = np.array([0, 4, 1, 0, 1, 2, 3, 0, 1, 2], np.uint8)
    task = tasks.task("t", (x, y), (x[:3], y[:3]), batch=4)
    assert (task.outputs, task.batch, task.test) == (5, 4, None)
    assert (task.loss, set(task.metrics)) == (cross_entropy, {"accuracy"})
    assert isinstance(task.train, Data)
    assert (task.train.x.dtype, task.train.y.dtype) == (np.int32, np.int32)
    np.testing.assert_array_equal(task.train.y, y)
    # A class that only validation shows has an output too.
    assert tasks.task("t", (x[2:], y[2:]), (x, y), batch=1).outputs == 5
    assert tasks.task("t", (x[2:], y[2:]), (x[2:], y[2:]), batch=1).outputs == 4


@pytest.mark.parametrize(
    ("y", "columns"),
    [(np.linspace(0, 1, 10), 1), (np.ones((10, 3)), 3), (np.ones((10, 2), int), 2)],
)
def test_real_targets_make_a_regression(y, columns):
    x = np.zeros((10, 4, 4))
    task = arrays(x, y, batch=2)
    assert (task.name, task.outputs) == ("arrays", columns)
    assert (task.loss, dict(task.metrics)) == (squared_error, {"r2": r2})
    assert (task.train.y.shape, task.train.y.dtype) == ((6, columns), np.float32)
    assert task.train.x.shape == (6, 4, 4)


def test_own_loss_metrics_and_outputs():
    def loss(outputs, y):
        return outputs[:, 0] * 0.0

    x, y = np.zeros((10, 2)), np.arange(10) % 2
    task = arrays(x, y, name="mine", loss=loss, metrics={}, outputs=7, batch=3)
    assert (task.name, task.loss, task.outputs, task.batch) == ("mine", loss, 7, 3)
    assert dict(task.metrics) == {}
    assert arrays(x, y, outputs=7, batch=3).outputs == 7, "more than the classes seen"


def test_arrays_splits_by_the_shares_and_keeps_pairs():
    y = np.arange(50)
    task = arrays(np.stack([y, -y], axis=1), y, valid=0.3, test=0.1, batch=1)
    assert [len(x) for x, _ in splits(task)] == [30, 15, 5]
    for data in splits(task):
        np.testing.assert_array_equal(data.x, np.stack([data.y, -data.y], axis=1))
    everything = np.concatenate([y for _, y in splits(task)])
    np.testing.assert_array_equal(np.sort(everything), y)
    assert (everything != y).any(), "split at random, not in the order given"
    assert arrays(y[:, None], y, valid=0.5, test=0.0, batch=1).test is None


X, Y = np.ones((10, 2), np.float32), np.arange(10) % 3
HOLE = X.copy()
HOLE[[4, 7], 1] = [np.nan, np.inf]


@pytest.mark.parametrize(
    ("train", "valid", "options", "message"),
    [
        ((HOLE, Y), (X, Y), {}, "train inputs hold NaN.* 2 of 10 examples, first at 4"),
        ((X, Y), (HOLE, Y), {}, "valid inputs hold NaN.* 2 of 10"),
        ((X, Y / 1.0), (X, HOLE[:, 1]), {}, "valid targets hold NaN.*first at 4"),
        ((X, Y[:9]), (X, Y), {}, "train data has 10 inputs and 9 targets"),
        ((X, Y), (X[:0], Y[:0]), {}, "valid data has 0 inputs"),
        ((X, Y), (X, Y - 1), {}, "valid labels must be class numbers from 0 to .*got -1 to 1"),
        ((X, Y), (X[:, :1], Y), {}, r"inputs differ in shape: \(2,\) and \(1,\)"),
        ((X, Y), (X, Y / 1.0), {}, "targets differ: int32 and float32"),
        ((X, X), (X, X[:, :1]), {}, "targets differ"),
        ((X, Y), (X, Y), {"batch": 11}, "batch 11 does not fit 10 training examples"),
        ((X, Y), (X, Y), {"batch": 0}, "batch 0 does not fit"),
        ((X, Y), (X, Y), {"batch": 64}, "batch 64 does not fit"),
        ((X, Y), (X, Y), {"outputs": 2}, "outputs 2 does not fit.*need 3"),
        ((X, X), (X, X), {"outputs": 3}, "outputs 3 does not fit.*need 2"),
        ((X, ["a"] * 10), (X, Y), {}, "train data must be arrays of numbers"),
        (([[1], [1, 2]], [0, 1]), (X, Y), {}, "train data must be arrays of numbers"),
    ],
)
def test_bad_data_is_refused(train, valid, options, message):
    with pytest.raises(InputError, match=message):
        tasks.task("t", train, valid, **{"batch": 1, **options})


def test_a_test_split_is_checked_too():
    with pytest.raises(InputError, match="test inputs hold NaN"):
        tasks.task("t", (X, Y), (X, Y), (HOLE, Y), batch=1)


@pytest.mark.parametrize(
    "shares",
    [{"valid": 0.0}, {"valid": -0.1}, {"test": -0.1}, {"valid": 0.5, "test": 0.5}, {"valid": 1.2}],
)
def test_bad_shares_are_refused(shares):
    with pytest.raises(InputError, match="valid=.*test=.*leave examples to train on"):
        arrays(X, Y, batch=1, **shares)


def test_arrays_needs_a_target_for_each_input():
    with pytest.raises(InputError, match="x has 10 examples but y has 9"):
        arrays(X, Y[:9], batch=1)
    with pytest.raises(InputError, match="valid data has 0 inputs"):
        arrays(X[:4], Y[:4], valid=0.1, batch=1)


def test_losses_by_hand():
    logits = jnp.log(jnp.float32([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
    expected = -np.log([0.2, 0.5])
    # Adding a constant to the logits of an example changes nothing.
    for shift in ([[0.0], [0.0]], [[50.0], [-3.0]]):
        loss = cross_entropy(logits + jnp.float32(shift), jnp.int32([1, 2]))
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
    outputs, y = jnp.float32([[1, 2], [0, 0]]), jnp.float32([[1, 4], [3, -1]])
    np.testing.assert_allclose(squared_error(outputs, y), [2.0, 5.0])


def test_metrics_by_hand():
    logits = jnp.float32([[1, 2, 3], [9, 0, 1], [0, 5, 4], [0, 1, 0]])
    assert accuracy(logits, jnp.int32([2, 0, 2, 1])) == 0.75
    y = jnp.float32([[1, 0], [3, 0], [5, 6]])
    # Squares about the mean: 4 + 0 + 4, and 4 + 4 + 16; of the errors: 1 + 3.
    outputs = y + jnp.float32([[1, 0], [0, 1], [-1, 1]])
    np.testing.assert_allclose(r2(outputs, y), 1.0 - 4.0 / 32.0, rtol=1e-6)
    assert r2(y, y) == 1.0
    np.testing.assert_allclose(r2(jnp.full((3, 2), 3.0).at[:, 1].set(2.0), y), 0.0, atol=1e-6)
    assert np.isfinite(r2(jnp.zeros((2, 1)), jnp.ones((2, 1)))), "targets that never vary"


def test_measure_gives_loss_and_metrics_by_bare_name():
    task = tasks.task("t", (X, Y), (X, Y), batch=1)
    scores = measure(task, np.float32([[0, 0, 9], [0, 9, 0]]), np.int32([2, 0]))
    assert set(scores) == {"loss", "accuracy"}
    assert scores["accuracy"] == 0.5
    np.testing.assert_allclose(scores["loss"], 4.5, rtol=1e-3)


def test_next_token_targets_make_a_sequence_task():
    x = np.arange(24).reshape(8, 3) % 7
    task = tasks.task("t", (x, (x + 1) % 7), (x, (x + 1) % 7))
    assert (task.outputs, task.loss, task.batch) == (7, cross_entropy, 8)
    assert dict(task.metrics) == {"accuracy": accuracy, "perplexity": tasks.perplexity}
    assert task.train.y.shape == (8, 3)
    assert tasks.output_shape(task, 2) == (2, 3, 7)
    assert arrays(x, (x + 1) % 7, valid=0.25, test=0.25).train.y.shape == (4, 3)
    # Beside real inputs whole numbers are a regression, as before.
    assert tasks.output_shape(arrays(x / 2, x), 5) == (5, 3)
    assert tasks.output_shape(arrays(x / 2, x[:, 0]), 5) == (5, 7)


def test_sequence_measures_by_hand():
    share = np.float32([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]], [[0.25, 0.25, 0.5]] * 2])
    y = jnp.int32([[0, 2], [1, 2]])
    logits = jnp.log(share) + 3.0
    # Bits of the right tokens: 1 and 3, then 2 and 1.
    np.testing.assert_allclose(cross_entropy(logits, y), np.log(2) * np.float32([2, 1.5]), 1e-5)
    np.testing.assert_allclose(tasks.bits_per_character(logits, y), 1.75, rtol=1e-5)
    np.testing.assert_allclose(tasks.perplexity(logits, y), 2**1.75, rtol=1e-5)
    assert accuracy(logits, y) == 0.5


def test_text_asks_for_the_next_character(built):
    task = built["text"]
    assert (task.outputs, task.batch, set(task.metrics)) == (
        96, 16, {"accuracy", "bits_per_character"},
    )  # fmt: skip
    for x, y in splits(task):
        assert x.shape == y.shape and x.shape[1] == 64 and x.dtype == y.dtype == np.int32
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
        assert x.min() >= 0 and y.max() < task.outputs
    assert len(task.valid.x) == len(task.test.x) == 256
    again = tasks.text()
    np.testing.assert_array_equal(task.train.x, again.train.x)
    assert tasks.text(length=32).valid.x.shape == (256, 32)


def test_text_splits_share_no_window(built):
    """Training windows follow one another; no other window lies in what they show."""
    task = built["text"]
    shown = np.append(task.train.x.ravel(), task.train.y[-1, -1]).astype("<u1").tobytes()
    np.testing.assert_array_equal(task.train.x[1:, 0], task.train.y[:-1, -1])
    held = [*task.valid.x, *task.test.x]
    assert len({x.tobytes() for x in held}) == len(held)
    assert all(x.astype("<u1").tobytes() not in shown for x in held)


def test_labels_put_wrongly_need_a_loss_of_ones_own():
    with pytest.raises(InputError, match="one-hot"):
        arrays(X, np.eye(3)[Y])
    with pytest.raises(InputError, match="all 0 or 1"):
        arrays(X, 1.0 * (Y > 1))
    assert arrays(X, 1.0 * (Y > 1), loss=squared_error).outputs == 1
    assert arrays(X, np.eye(3)[Y], loss=squared_error).outputs == 3


def test_booleans_are_classes_and_a_small_task_gets_a_small_batch():
    x = np.random.default_rng(0).normal(size=(40, 2))
    task = tasks.arrays(x, x[:, 0] > 0)
    assert task.train.y.dtype == np.int32 and task.outputs == 2
    assert task.batch == len(task.train.x) == 24


@pytest.mark.parametrize(("x", "y"), [([[1.0], [1.0, 2.0]], [0, 1]), (3.0, 4.0)])
def test_what_is_no_array_of_examples_is_refused(x, y):
    with pytest.raises(InputError, match="one entry an example"):
        tasks.arrays(x, y)


def test_whole_numbers_stay_whole_unless_a_split_has_others():
    whole, real = np.arange(6).reshape(3, 2), np.ones((3, 2))
    assert tasks.task("t", (whole, [0, 1, 1]), (whole, [0, 1, 1])).train.x.dtype == np.int32
    mixed = tasks.task("t", (whole, [0, 1, 1]), (real, [0, 1, 1]))
    assert mixed.train.x.dtype == mixed.valid.x.dtype == np.float32
    assert (
        tasks.task("t", (whole + 2**40, [0, 1, 1]), (real, [0, 1, 1])).train.x.dtype == np.float32
    )


@pytest.mark.parametrize("name", ["loss", "f 1", "<b>", "../x", ""])
def test_metric_names_that_cannot_be_columns_are_refused(name):
    with pytest.raises(InputError, match="must be an identifier other than loss and dead_units"):
        tasks.arrays(np.ones((9, 2)), np.arange(9) % 2, metrics={name: accuracy})


def test_numbers_that_are_no_classes_or_no_inputs_are_refused():
    with pytest.raises(InputError, match="for a regression make them real numbers"):
        tasks.arrays(np.ones((9, 2)), np.arange(9) * 10**8)
    with pytest.raises(InputError, match="inputs are complex"):
        tasks.arrays(np.ones((9, 2)) * 1j, np.arange(9) % 2)
    with pytest.raises(InputError, match="NaN or infinity"):
        tasks.arrays(np.full((9, 2), 1e300), np.arange(9) % 2)


def logits(answers, classes=3):
    return jnp.eye(classes)[np.asarray(answers)]


def test_f1_by_hand():
    """Class 0: 2 of 3 found, 2 of 2 answers right; class 1: 1 of 1, 1 of 2; no class 2."""
    y, answers = np.asarray([0, 0, 0, 1]), [0, 0, 1, 1]
    assert tasks.f1(logits(answers), y) == pytest.approx((0.8 + 2 / 3) / 2)
    assert tasks.balanced_accuracy(logits(answers), y) == pytest.approx((2 / 3 + 1) / 2)
    # An answer that is never right counts as a class of its own.
    assert tasks.f1(logits([0, 0, 2, 1]), y) == pytest.approx((0.8 + 1.0 + 0.0) / 3)


def test_f1_of_tokens_is_that_of_all_of_them():
    y, answers = np.asarray([[0, 0], [0, 1]]), np.asarray([[0, 0], [1, 1]])
    flat = tasks.f1(logits(answers.ravel()), y.ravel())
    assert tasks.f1(logits(answers), y) == pytest.approx(float(flat))


def test_f1_agrees_with_a_library():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    y, answers = rng.integers(0, 4, 60), rng.integers(0, 5, 60)
    expected = metrics.f1_score(y, answers, average="macro")
    assert tasks.f1(logits(answers, 6), y) == pytest.approx(expected, rel=1e-5)


def test_errors_of_numbers():
    outputs, y = jnp.asarray([[1.0], [4.0]]), np.asarray([[0.0], [1.0]], np.float32)
    assert tasks.mae(outputs, y) == 2.0 and tasks.rmse(outputs, y) == pytest.approx(5.0**0.5)


def test_metrics_are_chosen_by_name(built):
    task = tasks.with_metrics(built["spirals"], ["f1", "accuracy"])
    assert list(task.metrics) == ["f1", "accuracy"] and task.metrics["f1"] is tasks.f1
    assert tasks.with_metrics(task, None) is task
    assert not tasks.with_metrics(task, ()).metrics


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["r2"], "'r2' is none for classes; there are accuracy, balanced_accuracy, f1, perplexity"),
        (["recall"], "'recall' is none for classes"),
        ("f1", "metrics must be a list of names, got 'f1'"),
        (7, "7 is none for classes"),
        ([["f1"]], "is none for classes"),
    ],
)
def test_other_metrics_are_refused(built, names, reason):
    with pytest.raises(InputError, match=reason):
        tasks.with_metrics(built["spirals"], names)
