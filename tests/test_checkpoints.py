import json
import random

import numpy as np
import pytest

from swarmjax import checkpoints
from swarmjax.checkpoints import Checkpoint, DamagedError
from swarmjax.types import InputError


def made(round):
    rng = np.random.default_rng(round)
    arrays = {
        "member0.variables['params']['../../kernel']": rng.normal(size=(3, 4)).astype(np.float32),
        "frame.alive": np.array([True, False]),
        "frame.round": np.asarray(round, np.int32),
        "frame.descriptor": rng.normal(size=(2, 2)).astype(np.float16),
        "policy[0]": np.zeros((0, 2), np.int32),
        "key": np.asarray([1, 2], np.uint32),
    }
    return Checkpoint(round, arrays, {"event": 7, "best": {"score": 0.1 + 0.2}, "weak": []})


def same(a, b):
    if (a.round, a.facts, sorted(a.arrays)) != (b.round, b.facts, sorted(b.arrays)):
        return False
    pairs = [(a.arrays[name], b.arrays[name]) for name in a.arrays]
    return all((x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()) for x, y in pairs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    for round in (1, 2, 12):
        checkpoints.save(directory, made(round), 2)
    return directory


def test_what_was_saved_is_loaded_to_the_bit(saved):
    assert checkpoints.rounds(saved) == [2, 12], "the first gave way"
    for round in (2, 12):
        assert same(checkpoints.load(saved, round), made(round))
    assert checkpoints.load(saved, 2).arrays["frame.alive"].flags.writeable
    # Names of parameters are a person's, and never become paths.
    assert not [path for path in saved.rglob("*") if "kernel" in path.name]


def test_the_latest_is_found(saved, tmp_path):
    assert checkpoints.latest(saved)[0].round == 12
    assert checkpoints.latest(saved, until=11)[0].round == 2
    assert checkpoints.latest(saved, until=1) == (None, [])
    assert checkpoints.latest(tmp_path) == (None, [])


def test_one_of_that_round_is_replaced(tmp_path):
    for event in (1, 2):
        changed = made(3)._replace(facts={"event": event})
        checkpoints.save(tmp_path, changed, 2)
    assert checkpoints.load(tmp_path, 3).facts == {"event": 2}


def test_no_flipped_bit_and_no_cut_is_overlooked(tmp_path, capfd, caplog):
    """Whatever file of a checkpoint is damaged, it is refused or loaded as it was."""
    checkpoints.save(tmp_path, made(1), 1)
    place = tmp_path / "checkpoints" / "1"
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size)
    rng, refused = random.Random(0), 0
    for path in files:
        whole = path.read_bytes()
        for damage in ("flip", "cut"):
            content = bytearray(whole)
            if damage == "flip":
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            else:
                del content[len(content) // 2 :]
            path.write_bytes(bytes(content))
            try:
                assert same(checkpoints.load(tmp_path, 1), made(1)), path
            except DamagedError as error:
                assert "\n" not in str(error)
                refused += 1
            except InputError as error:
                assert "format" in str(error)
        path.write_bytes(whole)
    assert refused >= 4 and capfd.readouterr().err == "" and not caplog.records
    assert same(checkpoints.load(tmp_path, 1), made(1))


def test_one_whose_seal_was_never_written_is_loaded(tmp_path):
    checkpoints.save(tmp_path, made(1), 1)
    (tmp_path / "checkpoints" / "1" / "digests.json").unlink()
    assert same(checkpoints.load(tmp_path, 1), made(1))


def test_a_file_of_another_checkpoint_is_refused(tmp_path):
    for round in (1, 2):
        checkpoints.save(tmp_path, made(round), 2)
    one, other = (tmp_path / "checkpoints" / str(round) / "digests.json" for round in (1, 2))
    one.write_bytes(other.read_bytes())
    with pytest.raises(DamagedError, match="files are not as they were written"):
        checkpoints.load(tmp_path, 1)
    assert same(checkpoints.load(tmp_path, 2), made(2))


def test_a_damaged_one_is_told_of_and_the_one_before_it_is_used(tmp_path):
    for round in (1, 2):
        checkpoints.save(tmp_path, made(round), 2)
    for path in (tmp_path / "checkpoints" / "2" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    found, told = checkpoints.latest(tmp_path)
    assert found.round == 1
    assert len(told) == 1 and "an earlier one is used" in told[0]
    # The next checkpoint of that round takes its place.
    checkpoints.save(tmp_path, made(2), 2)
    assert checkpoints.latest(tmp_path)[0].round == 2


def test_another_format_is_refused_with_what_to_do(tmp_path):
    checkpoints.save(tmp_path, made(1), 1)
    path = tmp_path / "checkpoints" / "1" / "record" / "metadata"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"format": 99}))
    (tmp_path / "checkpoints" / "1" / "digests.json").unlink()
    with pytest.raises(InputError, match="has format 99; this version reads format 1") as error:
        checkpoints.latest(tmp_path)
    assert not isinstance(error.value, DamagedError)


def test_half_a_checkpoint_is_none(tmp_path):
    (tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(parents=True)
    assert checkpoints.rounds(tmp_path) == []
    checkpoints.save(tmp_path, made(1), 1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
