"""A server of Ollama's protocol that costs little: it waits, then answers. Run as a child: its CPU is not ours.

Arguments: slots, mean seconds, spread in seconds, and by name: change=REQUESTS:SLOTS in mid-run, faults=SHARE of the
chats that are refused as busy or too many, or cut off, seed=NUMBER of the dice that choose them, and endpoints=COUNT of
servers, each with so many slots of its own.
It prints its ports, and at the end of its input the most requests that one had in flight, slots and queue together.
Who asks with a schema gets a pair of question and answer, in pieces sent one by one.
"""

import asyncio
import json
import random
import sys
from functools import partial
from itertools import pairwise, product

TOLD = {"model": "tiny", "message": {"role": "assistant", "content": "A short answer."}, "done": False}
PIECES = 40
WORDS = ["".join(parts) for parts in product(("ba", "ne", "ti", "lo", "cu", "da", "ri", "so"), repeat=3)]


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


class Faults:
    """Says of each chat what is sent instead of an answer: nothing if it is cut off, None if it does not fail."""

    KINDS = (
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        b"",
    )

    def __init__(self, share: float, seed: int):
        self.share, self.dice = share, random.Random(seed)

    def next(self) -> bytes | None:
        """Return what becomes of the next chat; None if it is answered."""
        return self.dice.choice(self.KINDS) if self.dice.random() < self.share else None


class Connection(asyncio.Protocol):
    """One connection, kept open."""

    def __init__(self, slots: Slots, mean: float, spread: float, change: tuple[int, int] | None, faults: "Faults"):
        self.slots, self.mean, self.spread, self.change, self.faults = slots, mean, spread, change, faults
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
        if path == b"/api/chat" and (fault := self.faults.next()) is not None:
            self.transport.write(fault) if fault else self.transport.abort()
        elif path == b"/api/chat":
            send = self.pieces if b'"format"' in body[:length] else self.whole
            self.work = asyncio.ensure_future(self.chat(send))
        else:
            self.answer(json.dumps(LOOKS.get(path.decode(), {})).encode())

    def answer(self, body: bytes) -> None:
        """Send a whole response."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)

    async def whole(self, last: dict) -> None:
        """Answer in one breath."""
        self.answer(json.dumps(TOLD).encode() + b"\n" + json.dumps(last).encode() + b"\n")

    async def pieces(self, last: dict) -> None:
        """Answer as a real server does: each piece of the text in a line, a chunk and a write of its own."""
        write, text = self.transport.write, json.dumps(pair())
        write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        ends = [len(text) * number // PIECES for number in range(PIECES + 1)]
        for start, end in pairwise(ends):
            write(chunk({**TOLD, "message": {"role": "assistant", "content": text[start:end]}}))
            await asyncio.sleep(0)
        write(chunk({**last, "message": {"role": "assistant", "content": ""}}) + b"0\r\n\r\n")

    async def chat(self, send) -> None:
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
        await send(last)


def pair() -> dict:
    """Return a question and an answer of some 300 characters that came never before."""
    words = random.choices(WORDS, k=46)
    return {"question": " ".join(words[:10]).capitalize() + "?", "answer": " ".join(words[10:]).capitalize() + "."}


def chunk(event: dict) -> bytes:
    """Return a line as a chunk of HTTP."""
    line = json.dumps({"model": "tiny", "created_at": "2026-01-01T00:00:00.000000000Z", **event}).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


LOOKS = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [{"name": "tiny", "digest": "0" * 64}]},
    "/api/ps": {"models": []},
    "/api/show": {"model_info": {"general.architecture": "llama", "llama.context_length": 8192}},
    "/api/generate": {"done": True, "done_reason": "load"},
}


async def main() -> None:
    """Serve until a line comes in."""
    named = dict(word.split("=") for word in sys.argv[4:])
    all_slots = [Slots(int(sys.argv[1])) for _ in range(int(named.get("endpoints", 1)))]
    change = tuple(map(int, named["change"].split(":"))) if "change" in named else None
    faults = Faults(float(named.get("faults", 0)), int(named.get("seed", 0)))
    loop, mean, spread = asyncio.get_running_loop(), float(sys.argv[2]), float(sys.argv[3])
    servers = [
        await loop.create_server(partial(Connection, slots, mean, spread, change, faults), "127.0.0.1", backlog=1024)
        for slots in all_slots
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(max(slots.most for slots in all_slots), flush=True)


asyncio.run(main())
