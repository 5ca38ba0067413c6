"""A loop of virtual time: nobody waits for a clock, only for what is really done.

What a coroutine sleeps through, its time limits and its rests pass at once and in order, however loaded the machine is.
"""

import asyncio
import concurrent.futures
import random
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cerebro_nb import Ledger
from cerebro_nb.loop import LOOP


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is anything to do, and then jumps to what comes next.

    Work in the loop's threads takes no virtual time, nor does what `settle` waits for: both are waited for before the
    clock jumps. Of a socket it is not known that it will answer, so what runs here opens none.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None):
        super().__init__(_JumpingSelector(self))
        self._now, self._at_work, self._settle = 0.0, 0, settle

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._now

    def run_in_executor(self, executor, function, *arguments):
        """Run a function in a thread; the clock waits for it."""
        done = super().run_in_executor(executor, function, *arguments)
        self._at_work += 1
        done.add_done_callback(self._worked)
        return done

    def _worked(self, done: asyncio.Future) -> None:
        self._at_work -= 1

    def is_settled(self) -> bool:
        """Wait for what is settled; return False if there is work in threads, which wakes the loop when it is done."""
        if self._at_work:
            return False
        self._settle()
        return True

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        # So that 0.1 and 0.2 are 0.3; a loop takes timers as due that are a nanosecond ahead.
        self._now = round(self._now + seconds, 9)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None or not self._loop.is_settled():
            return super().select(None)
        events = super().select(0)  # what was settled may have woken somebody
        if not events:
            self._loop.pass_time(timeout)
        return events


@contextmanager
def virtual_time(*ledgers: Ledger) -> Iterator[VirtualLoop]:
    """Have Cerebro's loop run in virtual time, from 0: writing to the ledgers takes none, and dice fall alike."""

    def settle() -> None:
        # What is posted now is written after, or together with, all that was posted before.
        written = [ledger.database.submit(_nothing, None) for ledger in ledgers]
        for ledger in ledgers:
            ledger.database.flush()
        concurrent.futures.wait(written)

    loop, state = VirtualLoop(settle), random.getstate()
    random.seed(0)
    try:
        with LOOP.replaced(loop):
            yield loop
    finally:
        random.setstate(state)


def _nothing(connection, values) -> None:
    """Write nothing."""
