import contextlib
import logging
import subprocess
import sys
import threading
import uuid

import pytest

from paper import brokers
from swarmjax import bus
from swarmjax.bus import open_bus
from swarmjax.channels import Address, BusError, parse
from swarmjax.errors import InputError

SECRET = "p@ss/w:rd"
QUOTED = "p%40ss%2Fw%3Ard"


@pytest.fixture(params=["local", "rabbit", "kafka"])
def opened(request):
    """Every kind of bus there is."""
    if request.param == "local":
        return bus.Local()
    server = request.getfixturevalue(request.param)
    return open_bus(server.url if request.param == "rabbit" else server)


def test_a_bus_may_be_named_or_not():
    assert bus.open_if_named(None, {}) is None
    assert bus.open_if_named("local:a", {}) is bus.open_if_named(None, {"SWARMJAX_BUS": "local:a"})
    with pytest.raises(InputError, match="a bus begins with"):
        bus.open_if_named(None, {"SWARMJAX_BUS": "redis://x"})


@pytest.fixture
def channel():
    return f"swarmjax.{uuid.uuid4().hex}.up"


def collect(consumer, count, seconds=20.0):
    """So many messages; all but the last lot are acknowledged."""
    found = []
    while some := consumer.receive(seconds):
        found += some
        if len(found) >= count:
            break
        consumer.acknowledge()
    return found


def test_messages_arrive_whole_and_in_order(opened, channel):
    messages = [b"", b"\x00\xff\xce\n", *(b"%d" % i * i for i in range(600)), bytes(900_000)]
    with contextlib.closing(opened.publisher()) as publisher:
        publisher.publish(channel, messages)
        publisher.publish(channel, [b"last"])
    with contextlib.closing(opened.consumer(channel)) as consumer:
        assert collect(consumer, len(messages) + 1) == [*messages, b"last"]


def test_what_was_not_acknowledged_comes_again(opened, channel):
    with contextlib.closing(opened.publisher()) as publisher:
        publisher.publish(channel, [b"a", b"b"])
        first = opened.consumer(channel)
        assert collect(first, 2) == [b"a", b"b"]
        first.acknowledge()
        publisher.publish(channel, [b"c", b"d"])
        assert first.receive(20.0)[0] == b"c"
        first.close()
        publisher.publish(channel, [b"e"])
    with contextlib.closing(opened.consumer(channel)) as second:
        assert collect(second, 3) == [b"c", b"d", b"e"]


def test_a_reader_waits_for_what_comes_and_not_longer(opened, channel):
    with contextlib.closing(opened.consumer(channel)) as consumer:
        assert consumer.receive(0.2) == []
        with contextlib.closing(opened.publisher()) as publisher:
            later = threading.Timer(0.2, publisher.publish, (channel, [b"late"]))
            later.start()
            assert collect(consumer, 1) == [b"late"]
            later.join()
        consumer.acknowledge()
        assert consumer.receive(0) == []


def test_channels_do_not_mix(opened, channel):
    with contextlib.closing(opened.publisher()) as publisher:
        publisher.publish(channel, [b"mine"])
        publisher.publish(f"{channel}.other", [b"other"])
    with contextlib.closing(opened.consumer(f"{channel}.other")) as consumer:
        assert collect(consumer, 1) == [b"other"]


def test_local_buses_are_one_by_name():
    assert open_bus("local:a") is open_bus("local:a")
    assert open_bus("local:a") is not open_bus("local:b")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("amqp://host", Address("amqp", ("host:5672",))),
        ("amqps://host/%2Fa", Address("amqps", ("host:5671",), "/a")),
        ("amqp://[::1]", Address("amqp", ("[::1]:5672",))),
        ("amqp://[::1]:9/", Address("amqp", ("[::1]:9",))),
        ("kafka://a,b:9", Address("kafka", ("a:9092", "b:9"))),
        (f"kafkas://me:{QUOTED}@a", Address("kafkas", ("a:9093",), "", "me", SECRET)),
        ("local:x", Address("local", (), "x")),
    ],
)
def test_urls_are_read(url, wanted):
    assert parse(url, {}) == wanted


def test_the_environment_gives_what_the_url_leaves_out():
    given = {
        "SWARMJAX_BUS": "amqps://host", "SWARMJAX_BUS_USER": "me",
        "SWARMJAX_BUS_PASSWORD": SECRET, "SWARMJAX_BUS_CAFILE": "ca.pem",
    }  # fmt: skip
    assert parse(None, given) == Address("amqps", ("host:5671",), "", "me", SECRET, "ca.pem")
    assert parse("amqp://you@other", given).user == "you"
    assert parse("amqp://you:x@other", given).password == "x"


@pytest.mark.parametrize(
    "url",
    [
        "", "amqp:", "amqp://", "amqp://:5", "amqp://host:port", "amqp://host:0",
        "amqp://host:65536", f"http://me:{QUOTED}@host", f"me:{QUOTED}@host", "local:",
        f"amqp://me:{QUOTED}@host:x", f"kafka://me:{QUOTED}@a,,b", f"amqp://me:{QUOTED}@[::1",
        "redis://h\x1b[31m",
    ],
)  # fmt: skip
def test_what_names_no_bus_is_refused_without_its_secrets(url):
    with pytest.raises(InputError) as caught:
        open_bus(url, {})
    text = str(caught.value)
    assert text.isprintable()
    assert QUOTED not in text and SECRET not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("scheme", ["amqp", "kafka"])
def test_nobody_is_shown_the_password(scheme, caplog, capfd, monkeypatch):
    monkeypatch.setattr(f"swarmjax.{'rabbit' if scheme == 'amqp' else 'kafka'}.PATIENCE", 1.0)
    caplog.set_level(logging.DEBUG)
    nobody = brokers.free_ports(1)[0]
    opened = open_bus(f"{scheme}://someone:{QUOTED}@127.0.0.1:{nobody}", {})
    with pytest.raises(BusError) as caught:
        opened.publisher()
    address = parse(f"{scheme}://someone:{QUOTED}@127.0.0.1:{nobody}", {})
    said = [repr(opened), repr(address), str(address), str(caught.value), caplog.text]
    said += [str(address.error(f"login {SECRET} of someone refused")), *capfd.readouterr()]
    for text in said:
        assert "p@ss" not in text and "p%40" not in text and "someone" not in text
    assert f"{scheme}://127.0.0.1:{nobody}/" in str(caught.value)


def test_a_wrong_password_is_an_error_that_does_not_tell_it(rabbit):
    opened = open_bus(f"amqp://guest:{QUOTED}@127.0.0.1:{rabbit.port}")
    with pytest.raises(BusError, match="ACCESS_REFUSED") as caught:
        opened.publisher()
    assert "p@ss" not in str(caught.value)


def test_the_password_is_no_part_of_the_process_title(rabbit):
    code = (
        "from swarmjax import bus; bus.open_bus().publisher(); print('ready', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"SWARMJAX_BUS": f"amqp://127.0.0.1:{rabbit.port}", "SWARMJAX_BUS_USER": "guest",
             "SWARMJAX_BUS_PASSWORD": "guest", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "ready\n"
        with open(f"/proc/{process.pid}/cmdline") as file:
            assert "guest" not in file.read()
        process.communicate("\n")


def test_kafka_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "swarmjax.kafka", None)
    with pytest.raises(InputError, match="pip install 'swarmjax\\[kafka\\]'"):
        open_bus("kafka://host")


def test_kafka_is_told_how_to_log_in_and_to_encrypt():
    from swarmjax.kafka import settings

    plain = settings(parse("kafka://a,b", {}))
    assert (plain["security.protocol"], plain["bootstrap.servers"]) == (
        "PLAINTEXT",
        "a:9092,b:9092",
    )
    given = {"SWARMJAX_BUS_CAFILE": "ca.pem", "SWARMJAX_BUS_USER": "me"}
    safe = settings(parse(f"kafkas://me:{QUOTED}@a", given))
    assert (safe["security.protocol"], safe["sasl.password"]) == ("SASL_SSL", SECRET)
    assert safe["ssl.ca.location"] == "ca.pem"
    assert settings(parse("kafka://a", given))["security.protocol"] == "SASL_PLAINTEXT"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "stranger"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
    return folder


def test_amqp_over_tls_trusts_only_whom_it_is_told_to(certificates, tmp_path):
    config = "listeners.ssl.default = 127.0.0.1:TLS_PORT\n" + "".join(
        f"ssl_options.{option} = {certificates / file}\n"
        for option, file in (("certfile", "server.pem"), ("keyfile", "server.key"))
    )
    with contextlib.closing(brokers.RabbitMQ(tmp_path, config)) as server:
        url = f"amqps://guest:guest@localhost:{server.tls_port}"
        trusted = {"SWARMJAX_BUS_CAFILE": str(certificates / "server.pem")}
        with contextlib.closing(open_bus(url, trusted).publisher()) as publisher:
            publisher.publish("swarmjax.tls.up", [b"safe"])
        with contextlib.closing(open_bus(url, trusted).consumer("swarmjax.tls.up")) as consumer:
            assert collect(consumer, 1) == [b"safe"]
        stranger = {"SWARMJAX_BUS_CAFILE": str(certificates / "stranger.pem")}
        for environment in (stranger, {}):
            with pytest.raises(BusError, match="CERTIFICATE_VERIFY_FAILED"):
                open_bus(url, environment).publisher()
        with pytest.raises(BusError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bus(url.replace("localhost", "127.0.0.1"), trusted).publisher()
