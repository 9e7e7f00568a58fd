"""The bus over Kafka, by confluent-kafka: a channel is a topic of one partition, so in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import confluent_kafka as kafka
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from swarmjax.channels import Address, Consumer, Publisher

# Seconds for connecting, and for a confirmation.
PATIENCE = 10.0
# Messages under way at a time.
WINDOW = 500


class Kafka:
    """A Kafka cluster; made by `bus.open_bus`."""

    def __init__(self, address: Address):
        self._address = address

    def __repr__(self) -> str:
        return f"Kafka({self._address})"

    def publisher(self) -> Publisher:
        """As `Bus.publisher`."""
        return _Publisher(self._address)

    def consumer(self, channel: str) -> Consumer:
        """As `Bus.consumer`."""
        return _Consumer(self._address, channel)


def settings(address: Address) -> dict[str, Any]:
    """How librdkafka is told to connect; it holds the password."""
    given: dict[str, Any] = {
        "bootstrap.servers": ",".join(address.hosts),
        "client.id": "swarmjax",
        # It would write to standard error; errors come as exceptions.
        "log_level": 0,
        "error_cb": lambda error: None,
    }
    protocol = "SASL" if address.user else ""
    if protocol:
        given |= {"sasl.mechanism": "PLAIN", "sasl.username": address.user}
        given |= {"sasl.password": address.password or ""}
    protocol = "_".join(filter(None, (protocol, "SSL" if address.tls else "PLAINTEXT")))
    files = {"ca": address.cafile, "certificate": address.certfile, "key": address.keyfile}
    named = {f"ssl.{name}.location": path for name, path in files.items() if path and address.tls}
    return given | named | {"security.protocol": protocol}


@contextlib.contextmanager
def _reported(address: Address):
    """Everything that fails becomes a BusError."""
    try:
        yield
    # A full queue of librdkafka's own is a BufferError.
    except (kafka.KafkaException, BufferError) as error:
        raise address.error(f"{type(error).__name__}: {error}") from None


def _declare(address: Address, topic: str) -> None:
    """Makes sure that the topic exists: by asking for it, else by having it made."""
    # Brokers that make topics on their own do so for those who write.
    asking, until = kafka.Producer(settings(address)), time.monotonic() + PATIENCE
    with _reported(address):
        while (error := asking.list_topics(topic, PATIENCE).topics[topic].error) is not None:
            if time.monotonic() > until:
                raise kafka.KafkaException(error)
            if error.code() == kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                wanted = NewTopic(topic, num_partitions=1)
                # Somebody else may make it at this moment: whether it is there decides.
                with contextlib.suppress(kafka.KafkaException, TimeoutError):
                    AdminClient(settings(address)).create_topics([wanted])[topic].result(PATIENCE)
            time.sleep(0.05)


class _Publisher:
    def __init__(self, address: Address):
        self._address, self._declared = address, set()
        with _reported(address):
            self._producer = kafka.Producer(settings(address) | {
                "enable.idempotence": True, "linger.ms": 1,
                "message.timeout.ms": int(1000 * PATIENCE),
            })  # fmt: skip
            # Whether it can be reached is found out now.
            self._producer.list_topics(timeout=PATIENCE)

    def publish(self, channel: str, messages: Sequence[bytes]) -> None:
        if channel not in self._declared:
            _declare(self._address, channel)
            self._declared.add(channel)
        for start in range(0, len(messages), WINDOW):
            self._some(channel, messages[start : start + WINDOW])

    def _some(self, channel: str, messages: Sequence[bytes]) -> None:
        refused: list[Any] = []

        def told(error, message):
            del message
            if error is not None:
                refused.append(error)

        with _reported(self._address):
            for message in messages:
                self._producer.produce(channel, message, partition=0, on_delivery=told)
            left = self._producer.flush(PATIENCE)
        if refused or left:
            raise self._address.error(refused[0] if refused else f"{left} messages not confirmed")

    def close(self) -> None:
        with contextlib.suppress(kafka.KafkaException):
            # What was not confirmed comes again from whoever keeps it.
            self._producer.purge()
            self._producer.flush(0)


class _Consumer:
    def __init__(self, address: Address, topic: str):
        self._address, self._topic = address, topic
        _declare(address, topic)
        with _reported(address):
            self._consumer = kafka.Consumer(settings(address) | {
                "group.id": topic, "enable.auto.commit": False, "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
            })  # fmt: skip
            # Without a group's turns: a reader that was killed is replaced at once.
            self._consumer.assign([kafka.TopicPartition(topic, 0, kafka.OFFSET_STORED)])
        self._next: kafka.TopicPartition | None = None

    def receive(self, seconds: float) -> list[bytes]:
        with _reported(self._address):
            first = self._consumer.poll(seconds)
            # What else is here already.
            taken = [] if first is None else [first, *self._consumer.consume(WINDOW - 1, 0)]
            for message in taken:
                if message.error():
                    raise kafka.KafkaException(message.error())
        if taken:
            self._next = kafka.TopicPartition(self._topic, 0, (taken[-1].offset() or 0) + 1)
        return [message.value() or b"" for message in taken]

    def acknowledge(self) -> None:
        if self._next is not None:
            with _reported(self._address):
                self._consumer.commit(offsets=[self._next], asynchronous=False)
            self._next = None

    def close(self) -> None:
        with contextlib.suppress(kafka.KafkaException, RuntimeError):
            self._consumer.close()
