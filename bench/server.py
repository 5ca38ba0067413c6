"""A server of Ollama's protocol that costs little: it waits, then answers. Run as a child: its CPU is not ours.

Arguments: slots, mean seconds, spread in seconds, and optionally "requests:slots" for a change in mid-run.
It prints its port, and at the end of its input the most requests it had in flight, slots and queue together.
"""

import asyncio
import json
import random
import sys

TOLD = {"model": "tiny", "message": {"role": "assistant", "content": "A short answer."}, "done": False}


class Slots:
    """Serves so many at once; the rest queue without a word."""

    def __init__(self, count: int):
        self.count, self.busy, self.queue = count, 0, []
        self.in_flight = self.most = self.seen = 0

    async def take(self) -> None:
        """Wait for a slot."""
        self.seen += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        if self.busy >= self.count:
            turn = asyncio.get_running_loop().create_future()
            self.queue.append(turn)
            await turn
        else:
            self.busy += 1

    def give(self) -> None:
        """Free a slot."""
        self.in_flight -= 1
        self.busy -= 1
        while self.queue and self.busy < self.count:
            self.busy += 1
            self.queue.pop(0).set_result(None)


class Connection(asyncio.Protocol):
    """One connection, kept open."""

    def __init__(self, slots: Slots, mean: float, spread: float, change: tuple[int, int] | None):
        self.slots, self.mean, self.spread, self.change = slots, mean, spread, change
        self.data = b""

    def connection_made(self, transport) -> None:
        """Keep the way back."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect a request and answer it."""
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        if len(body) < length:
            return
        self.data = body[length:]
        path = head.split(b" ", 2)[1]
        if path == b"/api/chat":
            self.work = asyncio.ensure_future(self.chat())
        else:
            self.answer(json.dumps(LOOKS.get(path.decode(), {})).encode())

    def answer(self, body: bytes) -> None:
        """Send a whole response."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)

    async def chat(self) -> None:
        """Answer a chat when there is a slot and its time is over."""
        await self.slots.take()
        if self.change and self.slots.seen >= self.change[0]:
            self.slots.count, self.change = self.change[1], None
        seconds = max(0.0, random.gauss(self.mean, self.spread)) if self.spread else self.mean
        if seconds:
            await asyncio.sleep(seconds)
        self.slots.give()
        times = {"prompt_eval_count": 9, "eval_count": 4, "load_duration": 0, "prompt_eval_duration": 0}
        last = {**TOLD, "done": True, "done_reason": "stop", **times, "eval_duration": int(seconds * 1e9)}
        self.answer(json.dumps(TOLD).encode() + b"\n" + json.dumps(last).encode() + b"\n")


LOOKS = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [{"name": "tiny", "digest": "0" * 64}]},
    "/api/ps": {"models": []},
    "/api/show": {"model_info": {"general.architecture": "llama", "llama.context_length": 8192}},
    "/api/generate": {"done": True, "done_reason": "load"},
}


async def main() -> None:
    """Serve until a line comes in."""
    slots = Slots(int(sys.argv[1]))
    change = tuple(map(int, sys.argv[4].split(":"))) if len(sys.argv) > 4 else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(slots, float(sys.argv[2]), float(sys.argv[3]), change), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(slots.most, flush=True)


asyncio.run(main())
