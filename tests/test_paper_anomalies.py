"""The faults that are put into trainings, and how what was found is counted."""

import numpy as np
import pytest

from paper import anomalies
from paper.anomalies import FAULTS, Cases, Watched


@pytest.fixture(scope="module")
def traces():
    """Losses and norms `[12, 6]` with one fault each at step 6, and those without any."""
    genome = {
        "learning_rate": np.full(6, 0.003, np.float32),
        "optimizer": np.full(6, list(anomalies.RATES).index("adam"), np.int32),
        "activation": np.zeros(6, np.int32),
        "depth": np.zeros(6, np.int32),
    }
    cases = Cases(np.arange(6), np.full(6, 6, np.int32), genome)
    sound = cases._replace(fault=np.zeros(6, int))
    return [anomalies.train("spirals", each, seed=0, steps=12) for each in (cases, sound)]


def test_trainings_are_sound_until_their_fault(traces):
    (loss, norm), (sound, calm) = traces
    np.testing.assert_array_equal(loss[:6], sound[:6])
    np.testing.assert_array_equal(norm[:6], calm[:6])
    np.testing.assert_array_equal(loss[:, 0], sound[:, 0])


def test_every_fault_shows_what_it_is_meant_to(traces):
    (loss, norm), (sound, calm) = traces
    place = {name: i for i, name in enumerate(FAULTS)}
    # A rate takes effect at the step after; a batch is wrong at one step only.
    for name in ("rate", "plateau"):
        i = place[name]
        assert loss[6, i] == sound[6, i] and loss[7, i] != sound[7, i]
    strayed = np.abs(loss - sound).max(axis=0)
    assert strayed[place["rate"]] > 5 * strayed[place["plateau"]]
    ratio = norm[:, place["batch"]] / calm[:, place["batch"]]
    assert ratio[6] > 10 and (ratio[7:] < 10).all()
    assert loss[6, place["labels"]] != sound[6, place["labels"]]
    assert np.isnan(loss[6:, place["weights"]]).all()


def test_alarms_of_the_detectors_are_found(traces):
    loss, norm = traces[0]
    first = anomalies.first_alarms(loss, norm)
    assert first[FAULTS.index("weights")] == 6
    assert first[FAULTS.index("none")] == -1


def test_cases_are_half_controls():
    cases = anomalies.draw_cases(64, seed=1)
    assert np.bincount(cases.fault).tolist() == [16, 16, 8, 8, 8, 8]
    assert (cases.onset >= anomalies.EARLIEST).all() and (cases.onset < anomalies.LATEST).all()
    for index, (low, high) in enumerate(anomalies.RATES.values()):
        rates = cases.genome["learning_rate"][cases.genome["optimizer"] == index]
        assert len(rates) and (rates >= low * 0.999).all() and (rates <= high * 1.001).all()


def test_scores_by_hand():
    late = 100 + anomalies.PATIENCE + 1
    rate, labels = FAULTS.index("rate"), FAULTS.index("labels")
    watched = Watched(
        fault=np.array([0, 0, 1, rate, rate, labels, labels, labels]),
        onset=np.full(8, 100),
        harmed=np.array([False, True, False, True, True, True, False, False]),
        first=np.array([-1, 7, -1, 103, 99, late, 101, -1]),
    )
    # True alarms: 103, the late one and 101; false ones: a control's, and one before its fault.
    found = anomalies.score(watched)
    assert found["precision"] == pytest.approx(3 / 5)
    assert found["recall"] == pytest.approx(1 / 3), "103 of three that did harm"
    assert found["recall_all"] == pytest.approx(2 / 5)
    assert (found["delay"], found["cases"], found["faults"], found["harmful"]) == (3, 8, 5, 3)
    each = anomalies.by_fault(watched)
    assert each["none"] == {"alarmed": 0.5, "cases": 2}
    assert each["plateau"] == {"alarmed": 0.0, "cases": 1}
    assert each["rate"]["recall"] == 0.5 and each["labels"]["recall_all"] == pytest.approx(1 / 3)


def test_without_alarms_there_is_no_delay():
    nothing = Watched(np.array([0]), np.array([5]), np.array([False]), np.array([-1]))
    assert np.isnan(anomalies.score(nothing)["delay"])
