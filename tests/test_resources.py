from types import SimpleNamespace

import jax
import numpy as np
import psutil
import pytest

from swarmjax import resources


def gpu(stats):
    return SimpleNamespace(platform="gpu", memory_stats=lambda: stats)


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Writes a container's limits, on a host with 1000 bytes free."""
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"memory.{name}").write_text(text)

    return write


def test_without_a_container_the_host_says_what_is_free(cgroup):
    assert resources.free_host_memory() == 1000


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("700\n", "300\n", 400), ("5000\n", "300\n", 1000), ("max\n", "300\n", 1000), ("", "1", 1000)],
)
def test_the_smaller_of_host_and_container_counts(cgroup, limit, used, free):
    cgroup(max=limit, current=used)
    assert resources.free_host_memory() == free


def test_files_kept_in_memory_count_as_free(cgroup):
    cgroup(max="700", current="600", stat="anon 100\ninactive_file 450\nactive_file 50\n")
    assert resources.free_host_memory() == 550


@pytest.mark.parametrize("stat", ["anon 100\n", "one two three\n", "inactive_file many\n"])
def test_unreadable_statistics_free_nothing(cgroup, stat):
    cgroup(max="700", current="600", stat=stat)
    assert resources.free_host_memory() == 100


def test_a_device_with_memory_of_its_own_is_asked(cgroup):
    assert resources.free_memory(gpu({"bytes_limit": 900, "bytes_in_use": 250})) == 650
    assert resources.free_memory(gpu({"bytes_limit": 900})) == 900


@pytest.mark.parametrize("stats", [None, {}])
def test_a_device_that_does_not_say_has_what_the_host_has(cgroup, stats):
    assert resources.free_memory(gpu(stats)) == 1000
    assert resources.free_memory(jax.devices()[0]) == 1000


def test_memory_in_use_is_the_processs_and_that_of_all_accelerators(monkeypatch):
    process, devices = resources.memory_in_use()
    assert 1e7 < process < 1e12 and np.isnan(devices)
    found = [gpu({"bytes_in_use": 250}), gpu(None), gpu({"bytes_in_use": 50}), jax.devices()[0]]
    monkeypatch.setattr(jax, "local_devices", lambda: found)
    assert resources.memory_in_use()[1] == 300


def test_a_measurement_belongs_to_processor_devices_and_versions(monkeypatch):
    name = resources.machine_name()
    for part in (jax.devices()[0].device_kind, f"jax {jax.__version__}", "8 x"):
        assert part in name
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    assert resources.machine_name() != name
