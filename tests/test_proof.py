import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import resumed_run

import swarmjax as sj
from swarmjax import proof


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = resumed_run.setting(tmp_path_factory.mktemp("proof") / "run", budget=240)
    sj.run(experiment, checkpoint_seconds=0, checkpoints=1)
    return experiment


def test_rounds_are_rebuilt_and_found_to_be_those_of_the_run(run):
    last = proof.prove(run.directory, run)
    assert last.faults == () and last.hashed and last.member is None
    before = proof.prove(run.directory, run, round=last.round - 1, member=3, nearest=False)
    assert before.faults == () and before.round == last.round - 1
    # Of rounds that had a checkpoint once.
    assert before.hashed and (before.hashes != last.hashes).any()


def test_numbers_that_were_changed_are_found(run, tmp_path):
    path = run.directory / "frames" / "r000001.parquet"
    whole, table = path.read_bytes(), pq.read_table(path)
    loss = table["train_loss"].to_pylist()
    loss[2] += 1.0
    at = table.column_names.index("train_loss")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(loss, pa.float32())), path)
    try:
        found = proof.prove(run.directory, run, round=1, nearest=False)
        (fault,) = found.faults
        assert fault.startswith("member 2: train_loss is ") and fault.endswith("is stored")
        assert proof.prove(run.directory, run, round=1, member=1, nearest=False).faults == ()
    finally:
        path.write_bytes(whole)


def test_what_cannot_be_rebuilt(run):
    with pytest.raises(sj.InputError, match="has no round 99; it has"):
        proof.prove(run.directory, run, round=99)
    with pytest.raises(sj.InputError, match="member 6 is none of the swarm's, 0 to 5"):
        proof.prove(run.directory, run, member=6)
    with pytest.raises(sj.InputError, match="name the file that defines it"):
        proof.prove(run.directory)
