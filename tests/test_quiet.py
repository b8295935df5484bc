import signal
import time

import pytest

from emollm.quiet import quiet


class InterruptedAtItsEnd:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@quiet()
def work() -> None:
    InterruptedAtItsEnd()
    time.sleep(60)


def test_an_interrupt_inside_a_finaliser_is_not_lost(capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == ""
