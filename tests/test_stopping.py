import signal
import threading

import pytest

from swarmjax.stopping import StoppedError, polite


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_wish(number, code):
    told = []
    before = signal.getsignal(number)
    with polite(told.append) as wish:
        assert not wish
        signal.raise_signal(number)
        assert wish and wish.code == code
    assert len(told) == 1 and "finishing the round" in told[0]
    assert signal.getsignal(number) is before


def test_the_second_interrupts_and_the_third_is_heard_by_nobody():
    told = []
    with pytest.raises(KeyboardInterrupt) as stopped, polite(told.append):
        signal.raise_signal(signal.SIGTERM)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not isinstance(stopped.value, StoppedError)
    assert len(told) == 2 and "stopping now" in told[1]


def test_other_threads_leave_signals_to_the_program():
    before, heard = signal.getsignal(signal.SIGINT), []

    def work():
        with polite(print) as wish:
            heard.append((signal.getsignal(signal.SIGINT), bool(wish)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [(before, False)]
