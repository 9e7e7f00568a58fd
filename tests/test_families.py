import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import optimizers, space
from swarmjax.families import FAMILIES, USUAL, make_family, usual_space
from swarmjax.types import InputError

EXAMPLES = {
    "mlp": np.zeros((1, 3, 4), np.float32),
    "cnn": np.zeros((1, 4, 4, 2), np.float32),
    "transformer": np.zeros((1, 6), np.int32),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_fits_its_examples(name):
    example, searched = EXAMPLES[name], space.Space()
    family = make_family(name, searched, example, 5)
    wanted = (1, 6, 5) if name == "transformer" else (1, 5)

    def outputs():
        variables = family.init(jax.random.key(0), family.contain(()), {})
        return family.apply(family.contain(()), variables, example, {})[0]

    assert jax.eval_shape(outputs).shape == wanted
    again = make_family(name, space.Space(), example.copy(), 5)
    assert again == family, "the same family for the same space, so that programs are shared"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_gene_of_a_usual_space_is_read(name):
    searched = usual_space(name)
    read = make_family(name, searched, EXAMPLES[name], 5).genes | set(optimizers.GENES)
    assert set(dict(searched.genes)) <= read and len(searched.structural) >= 2


def test_every_kind_of_targets_has_a_family():
    assert set(USUAL) == {"classes", "tokens", "numbers"} and set(USUAL.values()) <= set(FAMILIES)


def test_an_unknown_name_is_told_with_what_there_is():
    with pytest.raises(InputError, match="model 'rnn' is unknown; built-in ones are mlp, cnn, tr"):
        make_family("rnn", space.Space(), EXAMPLES["mlp"], 5)
    with pytest.raises(InputError, match="model 'rnn' is unknown; built-in ones are mlp, cnn, tr"):
        usual_space("rnn")


@pytest.mark.parametrize("example", [np.zeros((1, 6), np.float32), np.zeros((1, 6, 2), np.int32)])
def test_a_transformer_reads_tokens_only(example):
    with pytest.raises(InputError, match="a transformer needs tokens"):
        make_family("transformer", space.Space(), example, 5)


def test_a_swarm_of_transformers_learns_more_of_the_text_than_how_often_letters_occur(tmp_path):
    task = sj.tasks.text(length=16)
    searched = sj.Space(
        learning_rate=sj.log_uniform(5e-3, 2e-2),
        depth=sj.structure(1),
        width=sj.structure(16, 32),
    )
    result = sj.run(task=task, space=searched, members=4, budget=320, directory=tmp_path / "run")
    counts = np.bincount(task.train.y.ravel(), minlength=task.outputs) + 1.0
    shares = counts / counts.sum()
    unigram = -np.log(shares[task.test.y]).mean()
    scores = result.best.scores
    assert scores["test_loss"] < unigram - 0.3
    np.testing.assert_allclose(
        scores["test_bits_per_character"], scores["test_loss"] / np.log(2), rtol=1e-5
    )
    logits = jax.jit(result.best.model.apply)(result.best.variables, task.test.x)
    alone = sj.tasks.measure(task, logits, task.test.y)
    np.testing.assert_allclose(alone["loss"], scores["test_loss"], rtol=1e-4)
