"""From spool to inbox over real servers, with everything on the way killed as `kill -9` does."""

import time

from paper.delivery import kill_all, pair, wait_for


def assert_all_arrived_once(both, kills):
    found = both.finish()
    assert found["status"] == 0, "the spool could not be emptied"
    assert (found["lost"], found["doubled"]) == (0, 0)
    assert found["accepted"] > 50
    assert found["untold"] <= kills


def test_rabbitmq_loses_nothing_when_all_three_are_killed(rabbit, tmp_path):
    with pair(rabbit.url, tmp_path) as both:
        kill_all(both, rabbit, outage=2.0)
        assert_all_arrived_once(both, kills=1)


def test_kafka_loses_nothing_when_reader_and_writer_are_killed(kafka, tmp_path):
    with pair(kafka, tmp_path) as both:
        for worker in (both.reader, both.writer, both.reader):
            worker.kill()
            time.sleep(0.2)
            worker.start()
        wait_for(lambda: len({incarnation for incarnation, _ in both.kept()}) == 2)
        assert_all_arrived_once(both, kills=1)
