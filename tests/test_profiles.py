import numpy as np
import pytest
from node_records import MARK, STAMP

from swarmjax.errors import InputError
from swarmjax.profiles import MOST_WATCHED, Profile
from swarmjax.records import Announce, Layer, decode_up, encode_up

ARRAYS = {"0.weight": np.zeros((2, 3), np.float32), "0.bias": np.zeros(3, np.float64)}


def test_sizes_are_counted_and_layers_follow_each_other():
    layers = [Layer("0", "Linear", (2, 3)), Layer("1", "ReLU"), Layer("2", "Linear", (3, 1))]
    fields = Profile({"learning_rate": 0.1}, ARRAYS, layers=layers).fields()
    assert (fields["parameters"], fields["bytes"]) == (9, 6 * 4 + 3 * 8)
    assert fields["weights"] == {"0.weight": (2, 3), "0.bias": (3,)}
    assert fields["connections"] == ((0, 1), (1, 2))
    assert fields["obeys"] == ("learning_rate",)


def test_what_is_said_is_an_announcement():
    profile = Profile(
        {"learning_rate": 0.1, "width": 3}, ARRAYS, obeys=[], connections=[], framework="numpy",
        step=7, cost=12,
    )  # fmt: skip
    record = Announce(**MARK, **STAMP, **profile.fields())
    assert decode_up(encode_up(record)) == record
    assert (record.obeys, record.connections, record.step, record.cost) == ((), (), 7, 12.0)


def test_a_profile_without_weights_gives_none():
    fields = Profile({}).fields()
    assert (fields["weights"], fields["parameters"], fields["bytes"]) == ({}, 0, 0.0)


def test_no_more_is_watched_than_a_table_holds():
    many = Profile({}, {f"w{i}": np.zeros(1) for i in range(MOST_WATCHED + 1)})
    many.check_watched(["w1*"])
    with pytest.raises(InputError, match=f"{MOST_WATCHED + 1} parameters are watched, at most"):
        many.check_watched(["*"])
    # Counted once, however many patterns it fits.
    Profile({}, ARRAYS).check_watched(["*", "0.*"] * MOST_WATCHED)
