import math
import sys
import time
import types

import pytest

from swarmjax.usage import Usage


def test_what_a_busy_process_uses_is_sampled():
    usage = Usage()
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    busy = usage.sample()
    time.sleep(0.1)
    idle = usage.sample()
    assert 0 < busy["cpu"]
    assert 0 <= idle["cpu"] < 50
    assert busy["memory"] > 1e6
    for name, most in (("gpu", 1.0), ("gpu_memory", 1e13)):
        assert math.isnan(busy[name]) or 0 <= busy[name] <= most


class Gpu(types.ModuleType):
    """NVML of one GPU that is half busy, until it fails."""

    def __init__(self, failing=()):
        super().__init__("pynvml")
        self.failing = set(failing)

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*_):
            if name in self.failing:
                raise RuntimeError("GPU is lost")
            return types.SimpleNamespace(gpu=50, used=3 * 2**30)

        return call


def test_a_gpu_is_watched_until_its_monitor_fails(monkeypatch):
    gpu = Gpu()
    monkeypatch.setitem(sys.modules, "pynvml", gpu)
    usage = Usage()
    assert {"gpu": 0.5, "gpu_memory": 3.0 * 2**30}.items() <= usage.sample().items()
    gpu.failing.add("nvmlDeviceGetUtilizationRates")
    lost = usage.sample()
    assert math.isnan(lost["gpu"]) and math.isnan(lost["gpu_memory"]) and lost["memory"] > 1e6


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_a_monitor_that_never_works_leaves_the_rest(monkeypatch, failing):
    monkeypatch.setitem(sys.modules, "pynvml", Gpu([failing]))
    sample = Usage().sample()
    assert math.isnan(sample["gpu"]) and sample["memory"] > 1e6
