"""A loop of virtual time: nobody waits for a clock, only for what is really done.

What a coroutine sleeps through, its time limits and its rests pass at once and in order, however loaded the machine is.
"""

import asyncio
import concurrent.futures
import math
import random
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cerebro_nb import Ledger
from cerebro_nb.concurrency.loop import LOOP, LoopAtWork


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is anything to do, and then jumps to what comes next.

    Work in the loop's threads takes no virtual time, nor does what `settle` waits for: both are waited for before the
    clock jumps. Of a socket it is not known that it will answer: where there are any, time stands still until it is
    given, and then passes when nothing is left to do. It passes as long as anything is timed: what is to be told of a
    moment is read off in a coroutine that is awake then.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None, left_s: float = math.inf):
        super().__init__(_JumpingSelector(self))
        self._now, self._left_s, self._at_work, self._settle = 0.0, left_s, 0, settle

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

    def give(self, seconds: float) -> None:
        """Let so much time pass as soon as nothing is left to do; from any thread."""
        self.call_soon_threadsafe(self._take, seconds)

    def _take(self, seconds: float) -> None:
        self._left_s += seconds

    def may_pass(self) -> bool:
        """Wait for what is settled; return False if something else is to be waited for, which wakes the loop."""
        if self._at_work or not self._left_s:
            return False
        self._settle()
        return True

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        seconds = min(seconds, self._left_s)
        self._left_s -= seconds
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
        if timeout is None or not self._loop.may_pass():
            return super().select(None)
        events = super().select(0)  # what was settled may have woken somebody
        if not events:
            self._loop.pass_time(timeout)
        return events


@contextmanager
def virtual_time(*ledgers: Ledger, left_s: float = math.inf) -> Iterator[VirtualLoop]:
    """Have Cerebro's loop run in virtual time, from 0: writing to the ledgers takes none, and dice fall alike."""

    def settle() -> None:
        # What is posted now is written after, or together with, all that was posted before.
        written = [ledger.database.submit(_nothing, None) for ledger in ledgers]
        for ledger in ledgers:
            ledger.database.flush()
        concurrent.futures.wait(written)

    loop, state = VirtualLoop(settle, left_s), random.getstate()
    random.seed(0)
    try:
        with handed_in(loop):
            yield loop
    finally:
        random.setstate(state)


@contextmanager
def handed_in(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have Cerebro work on another loop; at the end what is under way on it is cancelled, and it is closed."""
    at_work = LoopAtWork(loop, LOOP.keeper.lose)
    before = LOOP.keeper.exchange(at_work)
    try:
        yield
    finally:
        try:
            LOOP.run(_last(loop, at_work))
            at_work.stop()
            loop.close()
        finally:
            LOOP.keeper.exchange(before)


async def _last(loop: asyncio.AbstractEventLoop, at_work: LoopAtWork) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(at_work.close(), *others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _nothing(connection, values) -> None:
    """Write nothing."""
