"""What this process uses of its machine, without JAX."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import Any

import psutil


class Usage:
    """Samples the resources of this process since the sample before."""

    def __init__(self):
        self._process, self._gpu = psutil.Process(), _gpu()
        self._then, self._spent = time.monotonic(), self._cpu_seconds()

    def sample(self) -> dict[str, float]:
        """Columns `cpu`, `memory`, `gpu` and `gpu_memory` of `windows`."""
        now, spent = time.monotonic(), self._cpu_seconds()
        cores = (spent - self._spent) / max(now - self._then, 1e-9)
        self._then, self._spent = now, spent
        used = {"cpu": cores, "memory": float(self._process.memory_info().rss)}
        return used | {"gpu": math.nan, "gpu_memory": math.nan} | _gpu_sample(self._gpu)

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


def _gpu():
    """NVML's handle of the first GPU that this process may see, or None."""
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
        return pynvml.nvmlDeviceGetHandleByIndex(int(first))
    return None


def _gpu_sample(handle) -> dict[str, float]:
    # A GPU that cannot be watched any more does not stop the training.
    with contextlib.suppress(Exception):
        import pynvml

        if handle is not None:
            busy: Any = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            memory: Any = pynvml.nvmlDeviceGetMemoryInfo(handle).used
            return {"gpu": busy / 100, "gpu_memory": float(memory)}
    return {}
