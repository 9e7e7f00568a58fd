from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import swarmjax as sj
from swarmjax.experiment import builtin, check
from swarmjax.types import Policy

SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1))


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(90, 4))
    return sj.tasks.arrays(x, (x[:, 0] > 0).astype(int), batch=16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "mnist"}, "task 'mnist' is unknown; built-in tasks are digits"),
        ({"task": (1, 2)}, "task must be a Task or a name, got tuple"),
        ({"members": 0}, "members must be a whole number >= 1, got 0"),
        ({"members": 2.5}, "members must be a whole number"),
        ({"budget": True}, "budget must be a whole number"),
        ({"budget": 5, "members": 6}, "cannot give 6 members one step each"),
        ({"budget": 2**31}, "budget must be below 2147483648"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"space": sj.Space()}, "the space has no gene"),
        ({"space": sj.Space(dropout=sj.uniform(0, 1))}, "gene 'dropout' is read by nothing"),
        ({"space": sj.Space(optimizer=sj.choice("adam", "muon"))}, "optimizer 'muon' is unknown"),
        ({"policy": "pbtt"}, "did you mean pbt"),
        ({"policy": sj.exploit}, "policy must be a Policy such as sj.exploit"),
        ({"policy": sj.proportional(valid_f1=1.0)}, "policy proportional.* fails.*needs valid_f1"),
        (
            {"policy": Policy(lambda f: (), lambda k, p, f, s: (None, s), "odd")},
            "odd fails: it must",
        ),
        ({"policy": sj.exploit()}, "no policy of exploit grants steps"),
        ({"goal": 3}, "goal must be callable, got int"),
        ({"goal": "fastest"}, "goal 'fastest' cannot be read"),
        ({"goal": "valid_f1=1"}, "policy exploit.* fails.*needs valid_f1"),
        ({"goal": "accuracy=1", "policy": "grid_search"}, "grid_search looks at no goal"),
        ({"space": {"learning_rate": 1}}, "space must be a Space, got dict"),
        ({"optimizer": 3}, "optimizer must be callable, got int"),
        ({"window": 48}, "window must be 0 or a power of two up to 512, got 48"),
        ({"window": -1}, "window must be 0 or a power of two"),
        ({"trace": 3}, "trace must be a list of slots, got 3"),
        ({"trace": [64]}, "trace names member 64; those trained here are 0 to 63"),
        ({"trace": [3, 3]}, "trace names a member twice"),
        ({"parameters": "*/kernel", "trace": [1]}, "parameters must be a list of patterns"),
        ({"parameters": ["*/kernel"]}, "kept of the members in trace; name some"),
        ({"metrics": ["r2"]}, "metric 'r2' is none for classes"),
        ({"retain": -1}, "retain must be GiB from 0 on, got -1"),
    ],
)
def test_what_is_wrong_is_named(task, changes, message):
    with pytest.raises(sj.InputError, match=message):
        check(sj.Experiment(**{"task": task, "space": SPACE} | changes))


@pytest.mark.parametrize(
    "goal",
    [
        "pareto(accuracy=1, parameters=-1), cost<=1e9",
        sj.weighted(accuracy=1.0, efficiency_second=0.1),
    ],
)
def test_a_goal_is_pursued_by_the_preset(task, goal):
    name = check(sj.Experiment(task=task, space=SPACE, goal=goal)).policy.name
    assert name.count("pareto(accuracy=1.0" if isinstance(goal, str) else goal.__name__) == 2


@pytest.mark.parametrize(("policy", "even"), [("pbt", True), ("swarm", False)])
def test_whether_all_get_as_many_steps_is_known_before_a_run(task, policy, even):
    assert check(sj.Experiment(task=task, space=SPACE, policy=policy)).even == even


BRED = sj.chain(sj.exploit(), sj.allocate.uniform(), sj.breed("aligned"))


def test_only_networks_with_units_are_bred_by_them(task, tmp_path):
    asked = sj.Experiment(task=task, space=SPACE, policy=BRED, directory=tmp_path / "none")
    assert check(asked).notes == ()
    for model in ("cnn", lambda: nn.Dense(2)):
        with pytest.raises(sj.InputError, match="breed.operator='aligned'.* needs the units of"):
            sj.run(asked, model=model)
    assert list(tmp_path.iterdir()) == []
    average = sj.chain(sj.exploit(), sj.allocate.uniform(), sj.breed())
    check(sj.Experiment(task=task, space=SPACE, policy=average, model="cnn"))


def test_one_round_is_too_short_to_select(task):
    asked = sj.Experiment(
        task=task, space=SPACE, policy="pbt", members=4, round_steps=10, budget=40
    )
    assert "spent in one round, before exploit" in check(asked).notes[0]
    assert check(sj.Experiment(**{**vars(asked), "budget": 41})).notes == ()


class Tall(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Broken(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ np.ones((7, 2), np.float32)


def test_a_model_that_does_not_fit_is_refused(task):
    with pytest.raises(sj.InputError, match=r"returns shape \(2, 3\).*needs \(2, 2\)"):
        check(sj.Experiment(task=task, space=SPACE, model=Tall))
    with pytest.raises(sj.InputError, match="the model fails on two examples"):
        check(sj.Experiment(task=task, space=SPACE, model=Broken))


class Picky(nn.Module):
    k: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2 if self.k < 7 else 5)(x.reshape(-1, 4 if self.k != 6 else 7))


@pytest.mark.parametrize(("k", "message"), [(6, "with k=6 fails"), (7, r"with k=7 returns.*5\)")])
def test_every_architecture_must_fit(task, k, message):
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), k=sj.structure(2, k))
    with pytest.raises(sj.InputError, match=message):
        check(sj.Experiment(task=task, space=space, model=Picky))


def test_a_misspelt_gene_is_noticed_with_a_model_of_ones_own(task):
    space = sj.Space(lerning_rate=sj.log_uniform(1e-3, 1e-1), k=sj.structure(2, 3))
    with pytest.raises(sj.InputError, match="gene 'lerning_rate' is read by nothing"):
        check(sj.Experiment(task=task, space=space, model=Picky))


def test_chain_takes_policies_not_the_functions_that_make_them():
    with pytest.raises(sj.InputError, match="chain takes policies such as exploit"):
        sj.chain(sj.exploit, sj.perturb())


def test_a_loss_or_metric_of_the_wrong_shape_is_refused(task):
    x, y = task.train
    mean = lambda outputs, y: sj.tasks.cross_entropy(outputs, y).mean()  # noqa: E731
    odd = sj.tasks.arrays(x, y, loss=mean, batch=16)
    with pytest.raises(sj.InputError, match=r"the loss returns shape \(\) for 2 examples"):
        check(sj.Experiment(task=odd, space=SPACE))
    odd = sj.tasks.arrays(x, y, metrics={"hits": lambda o, y: o.argmax(1) == y}, batch=16)
    with pytest.raises(sj.InputError, match=r"metric 'hits' must return one number"):
        check(sj.Experiment(task=odd, space=SPACE))


def test_a_metric_that_cannot_be_traced_is_refused_in_one_line(task):
    outside = lambda outputs, y: float(np.asarray(y).sum())  # noqa: E731
    odd = sj.tasks.arrays(*task.train, metrics={"f1": outside}, batch=16)
    with pytest.raises(sj.InputError, match="metric 'f1' fails: TracerArray") as refused:
        check(sj.Experiment(task=odd, space=SPACE))
    assert "\n" not in str(refused.value)


def test_an_optimizer_that_cannot_be_stacked_is_refused(task):
    def noisy(genes):
        return optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))

    with pytest.raises(sj.InputError, match="typed random key"):
        check(sj.Experiment(task=task, space=SPACE, optimizer=noisy))
    with pytest.raises(sj.InputError, match="one training step fails: KeyError: 'rate'"):
        check(sj.Experiment(task=task, space=SPACE, optimizer=lambda g: optax.sgd(g["rate"])))


def test_numbers_may_be_numpys(task):
    check(sj.Experiment(task=task, space=SPACE, members=np.int64(4), budget=np.int32(40)))


def test_checking_writes_nothing(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    setup = check(sj.Experiment(task=task, space=SPACE))
    assert setup.directory.parent.name == "runs" and list(tmp_path.iterdir()) == []


def test_a_new_directory_is_named_after_the_task_and_is_new(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = check(sj.Experiment(task=task, space=SPACE)).directory
    first.mkdir(parents=True)
    second = check(sj.Experiment(task=task, space=SPACE)).directory
    assert first.name.startswith("arrays-") and first != second
    hostile = sj.tasks.arrays(task.train.x, task.train.y, name="../../etc/x y", batch=16)
    named = check(sj.Experiment(task=hostile, space=SPACE)).directory
    assert named.parent.name == "runs" and ".." not in named.name


def test_builtin_experiments_are_mixed_swarms():
    experiment = builtin("digits")
    assert experiment.members == 64 and set(experiment.space.structural) == {"depth", "width"}
    with pytest.raises(sj.InputError, match="built-in tasks are"):
        builtin("imagenet")
    assert set(builtin("digits", "cnn").space.structural) == {"depth", "width", "kernel"}
    with pytest.raises(sj.InputError, match="model 'rnn' is unknown; built-in ones are mlp, cnn"):
        builtin("digits", "rnn")


def test_without_a_space_the_usual_one_of_the_model_is_searched(task):
    def genes(**given):
        setup = check(sj.Experiment(**given))
        assert setup.experiment.space is setup.recipe.space
        return set(dict(setup.recipe.space.genes))

    common = {"learning_rate", "weight_decay", "activation", "optimizer", "depth", "width"}
    assert genes(task="spirals") == genes(task=task) == genes(task="text") == common
    assert genes(task="digits", model="cnn") == common | {"kernel"}
    assert check(sj.Experiment(task="text")).recipe.space == builtin("text").space


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": Picky}, "space is needed for model Picky.*give space=sj.Space"),
        ({"optimizer": optax.adam}, "space is needed for optimizer adam"),
        ({"model": "rnn"}, "model 'rnn' is unknown; built-in ones are mlp, cnn"),
    ],
)
def test_where_there_is_no_usual_space_it_is_asked_for(task, changes, message):
    with pytest.raises(sj.InputError, match=message):
        check(sj.Experiment(task=task, **changes))


def test_next_token_tasks_take_a_transformer():
    x = np.random.default_rng(0).integers(0, 5, (20, 6))
    words = sj.tasks.arrays(x, (x + 1) % 5, batch=4)
    width = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(16, 32))
    setup = check(sj.Experiment(task=words, space=width))
    assert setup.model == "transformer" and setup.recipe.family.build({}).outputs == 5
    with pytest.raises(sj.InputError, match=r"\(2, 5\) for 2 examples.*needs \(2, 6, 5\)"):
        check(sj.Experiment(task=words, space=width, model="mlp"))
    classes = sj.tasks.arrays(x, x[:, 0], batch=4)
    with pytest.raises(sj.InputError, match=r"\(2, 6, 5\) for 2 examples.*needs \(2, 5\)"):
        check(sj.Experiment(task=classes, space=width, model="transformer"))


def test_the_models_name_is_told(task):
    assert check(sj.Experiment(task=task, space=SPACE)).model == "mlp"
    assert (
        check(sj.Experiment(task=task, space=SPACE, model=lambda: nn.Dense(2))).model == "<lambda>"
    )
    with pytest.raises(sj.InputError, match="model 'rnn' is unknown"):
        check(sj.Experiment(task=task, space=SPACE, model="rnn"))


def test_the_text_is_learned_by_transformers():
    experiment = builtin("text")
    assert set(experiment.space.structural) == {"depth", "width"}
    assert check(experiment).model == "transformer"


def test_cnns_take_images_and_are_rehearsed_by_one_architecture(task):
    setup = check(builtin("digits", "cnn"))
    assert setup.model == "cnn" and setup.recipe.family.build({}).outputs == 10
    square = sj.Space(learning_rate=SPACE["learning_rate"], kernel=sj.structure(1, 3))
    check(sj.Experiment(task=task, space=square, model="cnn"))
    odd = sj.tasks.arrays(np.ones((90, 5)), task.train.y[:1].repeat(90), batch=16)
    with pytest.raises(sj.InputError, match=r"a CNN needs images.*got inputs of shape \(5,\)"):
        check(sj.Experiment(task=odd, space=square, model="cnn"))


def test_beside_a_policy_a_goal_says_within_which_limits_the_best_is_kept(task):
    goal = sj.constrained(sj.weighted(accuracy=1.0), parameters="<= 1000")
    chain = sj.chain(sj.exploit(goal=goal), sj.softmax(goal=goal), sj.perturb())
    setup = check(sj.Experiment(task=task, space=SPACE, policy=chain, goal=goal))
    assert setup.goal is goal and setup.policy.name == chain.name


def test_what_was_rehearsed_once_is_not_rehearsed_again(task):
    traced = []
    even = sj.allocate.uniform()

    def update(*given):
        traced.append(1)
        return even.update(*given)

    experiment = sj.Experiment(task=task, policy=even._replace(update=update), budget=64)
    found = [check(experiment), check(replace(experiment, seed=7))]
    assert len(traced) == 1
    assert (found[0].even, found[0].notes) == (found[1].even, found[1].notes)
    check(replace(experiment, members=8))
    assert len(traced) == 2


def test_a_bundled_task_is_one_for_all_runs_of_a_process():
    first, again, noisy = (
        check(sj.Experiment(task=name)).task for name in ("digits", "digits", "digits-noisy")
    )
    assert first is again and noisy is not first
