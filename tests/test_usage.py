import math
import time

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
