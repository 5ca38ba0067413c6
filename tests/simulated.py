"""A server of so many slots as an object: it takes the loop's time and no socket, so it can be run in virtual time."""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from cerebro_nb import Reply, ScriptedBackend, errors
from cerebro_nb.protocol.messages import ChatRequest, LoadedModel, Timings, Usage

#: Makes the error that a request fails with; of None it does not fail.
Fault = Callable[[], Exception] | None
#: Seconds after which a server that hangs is taken for away when it is asked for its version.
LOOK_S = 10.0


def never() -> Exception:
    """Stand for the fault of a request that gets neither an answer nor an error; it is not called."""
    raise NotImplementedError


def now() -> float:
    """Return the seconds of the running loop."""
    return asyncio.get_running_loop().time()


def echo(request: ChatRequest) -> str:
    """Answer with the last message."""
    return f"echo {request.messages[-1].content}"


def at_a_rate(share: float, *faults: Fault, seed: int) -> Iterator[Fault]:
    """Yield without end one of the faults for a share of the requests, and None for the others."""
    dice = random.Random(seed)
    while True:
        yield dice.choice(faults) if dice.random() < share else None


@dataclass(slots=True)
class Call:
    """One request: when it was sent, when it found a slot (None if it did not) and when it ended, and why it failed."""

    text: str
    sent_at: float
    begun_at: float | None = None
    ended_at: float | None = None
    failed: BaseException | None = None


class SimulatedServer(ScriptedBackend):
    """Serves so many requests at once; the others wait without a word, as in Ollama and llama.cpp.

    Parameters
    ----------
    slots
        How many it serves at once; it may be changed while it serves.
    seconds
        How long that takes, or a function from the server's dice to it.
    queue
        How many more may wait; what comes then is refused as busy. None is no end.
    tells_times, tells_slots
        Whether it tells its own times with an answer, and its slots when it loads.
    way_s
        Seconds to it and back.
    faults
        What becomes of its requests, in turn; when they are used up none fails.
    answer
        Answers a request.
    base_url
        Its address.
    seed
        Of its dice.
    """

    name = "simulated"

    def __init__(
        self,
        slots: int = 1,
        seconds: float | Callable[[random.Random], float] = 0.1,
        *,
        queue: int | None = None,
        tells_times: bool = False,
        tells_slots: bool = False,
        way_s: float = 0.0,
        faults: Iterable[Fault] = (),
        answer: Callable[[ChatRequest], str] = echo,
        base_url: str = "simulated:",
        seed: int = 0,
    ):
        super().__init__(answer)
        self._slots, self.seconds, self.queue = slots, seconds, queue
        self.tells_times, self.tells_slots, self.way_s = tells_times, tells_slots, way_s
        self.base_url, self.dice = base_url, random.Random(seed)
        self.faults = itertools.chain(faults, itertools.repeat(None))
        #: Every request, in the order in which they were sent.
        self.calls: list[Call] = []
        #: When it was asked for its version, and when it loaded a model.
        self.looked_at: list[float] = []
        self.loaded_at: list[float] = []
        self.in_service = self.most_in_service = 0
        #: Requests that are served or wait for it.
        self.present = self.most_present = 0
        #: Why nobody is there, or None: it is what every request then fails with.
        self.away: Fault = None
        #: Whether it takes every request and answers none.
        self.hangs = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._under_way: set[asyncio.Future[Reply]] = set()

    @property
    def slots(self) -> int:
        """How many it serves at once."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        self._slots = slots
        self._let_in()

    # --- coming and going

    def go_away(self, fault: Callable[[], Exception] = lambda: errors.ConnectionFailed("nobody answers")) -> None:
        """Break what is under way, and answer nobody."""
        self.away = fault
        for one in list(self._under_way):
            one.cancel()

    def come_back(self) -> None:
        """Answer again."""
        self.away = None

    def _there(self) -> None:
        if self.away is not None:
            raise self.away()

    # --- what a backend does

    async def version(self) -> str:
        """Return its version, or fail if it is away."""
        self.looked_at.append(now())
        self._there()
        if self.hangs:
            await asyncio.sleep(LOOK_S)
            raise errors.RequestTimeout(f"no version within {LOOK_S:g} s")
        return "1"

    async def load(self, model, options) -> LoadedModel:
        """Load a model, or fail if it is away."""
        self._there()
        self.loaded_at.append(now())
        return LoadedModel(self.slots if self.tells_slots else None)

    async def complete(self, request, on_text=None) -> Reply:
        """Answer after a while, within the request's time limit."""
        call = Call(request.messages[-1].content, now())
        self.requests.append(request)
        self.calls.append(call)
        try:
            return await self._within(request, call)
        except BaseException as error:
            call.failed = error
            raise
        finally:
            call.ended_at = now()

    async def _within(self, request: ChatRequest, call: Call) -> Reply:
        limit_s = request.timeout_s or request.options.timeout_s
        serving = asyncio.ensure_future(self._served(request, call))
        self._under_way.add(serving)
        try:
            async with asyncio.timeout(limit_s):
                return await serving
        except TimeoutError as late:
            raise errors.RequestTimeout(f"no whole answer within {limit_s:g} s") from late
        except asyncio.CancelledError:
            if serving.cancelled() and self.away is not None:
                raise errors.ConnectionFailed("the connection broke") from None
            raise
        finally:
            self._under_way.discard(serving)

    async def _served(self, request: ChatRequest, call: Call) -> Reply:
        self._there()
        await asyncio.sleep(self.way_s / 2)
        fault = next(self.faults)
        if self.hangs or fault is never:
            await asyncio.get_running_loop().create_future()
        if fault is not None:
            raise fault()
        if self.queue is not None and self.present >= self.slots + self.queue:
            raise errors.ServerBusy("server busy, please try again")
        self.present += 1
        self.most_present = max(self.most_present, self.present)
        try:
            await self._slot()
            call.begun_at = now()
            try:
                service_s = self.seconds if isinstance(self.seconds, float | int) else self.seconds(self.dice)
                await asyncio.sleep(service_s)
            finally:
                self.in_service -= 1
                self._let_in()
        finally:
            self.present -= 1
        await asyncio.sleep(self.way_s / 2)
        return self._reply(request, call, service_s)

    async def _slot(self) -> None:
        free = asyncio.get_running_loop().create_future()
        self._waiting.append(free)
        self._let_in()
        try:
            await free
        except asyncio.CancelledError:
            if free.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(free)
            else:  # it was let in at the moment in which it left
                self.in_service -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self.in_service < self.slots:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                self.in_service += 1
                self.most_in_service = max(self.most_in_service, self.in_service)

    def _reply(self, request: ChatRequest, call: Call, service_s: float) -> Reply:
        text = self._script(request)
        told = {"load_s": 0.0, "prompt_s": 0.0, "generate_s": service_s} if self.tells_times else {}
        timings = Timings(now() - call.sent_at, now() - call.sent_at, **told)
        usage = Usage(len(call.text.split()), len(text.split()))
        return Reply(text, "stop", usage, timings, request.model, self.name, raw={"model": request.model})


def most_at_once(*servers: SimulatedServer) -> int:
    """Return how many requests were under way at once at the most, over all servers."""
    calls = [call for server in servers for call in server.calls]
    # Of one moment the ends come first.
    changes = sorted([(call.ended_at, -1) for call in calls] + [(call.sent_at, 1) for call in calls])
    return max(itertools.accumulate(change for _, change in changes))
