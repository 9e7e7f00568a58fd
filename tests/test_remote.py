import contextlib

import pytest

from swarmjax import cli, remote, store
from swarmjax.bus import open_bus
from swarmjax.errors import InputError
from swarmjax.fleet import Fleet
from swarmjax.probe import probe
from swarmjax.relay import Relay
from swarmjax.remote import Follow, Node
from swarmjax.space import Space, log_uniform
from swarmjax.stored import open_run

SPACE = Space(learning_rate=log_uniform(1e-4, 1e-1))


def test_a_swarm_that_waits_for_nodes_answers(tmp_path, capsys):
    url = f"local:{tmp_path}"
    with contextlib.closing(Fleet(open_bus(url), "s", SPACE, 1, tmp_path)) as fleet:
        heard = probe(open_bus(url), "s", 20)
        assert heard.answers >= 8 and 0 < heard.fastest < 20
        remote.run_node(Node(bus=url, swarm="s", wait=20))
        # It asked and did not join.
        assert fleet.peers == {} and fleet.inbox.refused == 0
    assert capsys.readouterr().out.startswith("swarm s answers in ")


def test_a_swarm_that_is_not_there_is_told_in_a_line(tmp_path):
    with pytest.raises(InputError, match="swarm s does not answer within 0.05 s"):
        remote.run_node(Node(bus=f"local:{tmp_path}", swarm="s", wait=0.05))


def test_a_bus_that_is_not_there_is_told_in_a_line():
    with pytest.raises(InputError, match="the bus cannot be reached: amqp://127.0.0.1:1/") as told:
        remote.run_node(Node(bus="amqp://me:secret@127.0.0.1:1/", wait=1.0))
    assert "secret" not in str(told.value)


def test_the_program_has_these_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.command_line(["node", "--bus", "local:nobody", "--swarm", "s", "--wait", "0.05"])
    assert ended.value.code == 2
    assert "swarmjax: swarm s does not answer within 0.05 s" in capsys.readouterr().err


def test_a_finished_run_is_copied(tmp_path, capsys):
    url, directory = f"local:{tmp_path}", tmp_path / "run"
    with contextlib.closing(store.create(directory, {"members": 1, "budget": 1}, SPACE)) as writer:
        writer.steering({}, True)
        writer.event(0, "finished", "all done")
        writer.ended("finished", "really")
    with contextlib.closing(Relay(directory, open_bus(url), "s")):
        remote.run_follow(Follow(tmp_path / "copy", bus=url, swarm="s"))
    assert [event.text for event in open_run(tmp_path / "copy").events()] == ["all done", "really"]
    assert "storing swarm s in" in capsys.readouterr().err
