import sqlite3
import threading

import pytest

from swarmjax import ledger
from swarmjax.errors import InputError
from swarmjax.ledger import Ledger, entries, queue
from swarmjax.steering import Boost, Kill, Member, Pause, Resume, decode


@pytest.fixture
def path(tmp_path):
    """The database of a run that goes on."""
    path = tmp_path / "swarm.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(ledger.TABLE)
        database.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
    say(path, "running")
    return path


def say(path, state):
    with sqlite3.connect(path) as database:
        database.execute(
            "REPLACE INTO meta (key, value) VALUES ('status', ?)", (f'{{"state": "{state}"}}',)
        )


@pytest.fixture
def trainer(path):
    database = sqlite3.connect(path, check_same_thread=False)
    yield Ledger(database, threading.Lock())
    database.close()


def rows(path):
    with sqlite3.connect(path) as database:
        return entries(database)


def test_what_is_queued_waits_in_order_until_it_is_settled(path, trainer):
    assert trainer.waiting() == []
    assert queue(path, "ada", [Pause(), Kill(Member(1, 2))]) == [1, 2]
    assert queue(path, "bob", [Resume()]) == [3]
    told = [(each.who, decode(each.body), each.state, each.round) for each in trainer.waiting()]
    assert told == [
        ("ada", Pause(), "queued", None),
        ("ada", Kill(Member(1, 2)), "queued", None),
        ("bob", Resume(), "queued", None),
    ]
    trainer.settle(1, "applied", 4, "paused", Resume())
    trainer.settle(2, "refused", 4, "no")
    trainer.tell(1, "paused for a while")
    assert [each.id for each in trainer.waiting()] == [3]
    first, second, _ = rows(path)
    assert (first.state, first.round, first.told) == ("applied", 4, "paused for a while")
    assert decode(first.inverse) == Resume() and first.time <= first.settled
    assert (second.state, second.told, second.inverse) == ("refused", "no", None)


def test_a_settled_directive_is_not_settled_again(path, trainer):
    queue(path, "ada", [Pause()])
    trainer.settle(1, "applied", 4, "paused")
    trainer.settle(1, "refused", 5, "no")
    assert trainer.entry(1).state == "applied" and trainer.entry(1).round == 4
    assert trainer.entry(2) is None


def test_all_that_waits_is_refused_when_the_run_ends(path, trainer):
    queue(path, "ada", [Pause(), Resume()])
    trainer.settle(1, "applied", 1, "paused")
    trainer.close(7)
    assert [(each.state, each.told) for each in rows(path)] == [
        ("applied", "paused"), ("refused", "the run has ended"),
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_nothing_can_be_asked_of_a_run_that_is_over(path, state):
    say(path, state)
    with pytest.raises(InputError, match=f"the run is {state}"):
        queue(path, "ada", [Pause()])
    assert rows(path) == []


def test_all_of_it_or_nothing_is_asked(path):
    with pytest.raises(InputError):
        queue(path, "ada", [Pause(), Boost(Member(0, 0), 1e9)])
    assert rows(path) == []


@pytest.mark.parametrize(
    ("who", "kept"), [("a\nb", "a b"), ("x" * 99, "x" * 61 + "..."), (" ", None)]
)
def test_whoever_asks_has_a_name_of_one_line(path, who, kept):
    if kept is None:
        with pytest.raises(InputError, match="must give a name"):
            queue(path, who, [Pause()])
    else:
        queue(path, who, [Pause()])
        assert rows(path)[0].who == kept


def test_a_run_that_cannot_be_steered_says_so(tmp_path, path):
    with pytest.raises(InputError, match="cannot be steered: unable to open"):
        queue(tmp_path / "elsewhere" / "swarm.db", "ada", [Pause()])
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE directives")
    with pytest.raises(InputError, match="cannot be steered: no such table"):
        queue(path, "ada", [Pause()])
    assert rows(path) == []


def test_a_missing_table_is_nothing_to_wait_for(path, trainer):
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE directives")
    assert trainer.waiting() == [] and trainer.entry(1) is None
    trainer.settle(1, "applied", 1, "x")


FORGED = [
    ("x" * 100_000, "ada"),
    (b"\xff\xfe\x00", b"\x00\xff"),
    (12, 3.5),
    ("", ""),
    ("<script>", "<img src=x>\x1b[2J"),
]


@pytest.mark.parametrize(("body", "who"), FORGED)
def test_forged_rows_are_read_without_harm(path, trainer, body, who):
    with sqlite3.connect(path) as database:
        statement = "INSERT INTO directives (time, who, body, round, told) VALUES (?, ?, ?, ?, ?)"
        database.execute(statement, ("noon", who, body, "seven", b"\xff"))
    (entry,) = trainer.waiting()
    assert entry.who.isprintable() and isinstance(entry.body, bytes)
    assert len(entry.body) <= 8193 and isinstance(entry.time, float)
    with pytest.raises(InputError):
        decode(entry.body)
    trainer.settle(entry.id, "refused", 1, "forged")
    assert trainer.waiting() == []


def test_many_writers_lose_nothing(path, trainer):
    def write(name):
        for _ in range(20):
            queue(path, name, [Pause()])

    threads = [threading.Thread(target=write, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.id for each in trainer.waiting()] == list(range(1, 81))
    assert {each.who for each in trainer.waiting()} == {"w0", "w1", "w2", "w3"}
