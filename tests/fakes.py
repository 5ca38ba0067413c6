"""Servers that speak the protocols of Ollama and OpenAI, and can fail in every way a server fails.

The official clients of both are run against them in the contract tests: they are the oracle. A word is a token.
"""

import asyncio
import hashlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

Answer = Callable[[dict[str, Any]], str]
CONTENT_TYPE = web.RequestKey("content_type", str)
HTML = "<html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"


_NOUNS = (
    "harbour lantern orchard kettle bridge violin meadow anchor basket chimney ladder compass market window garden "
    "river saddle mirror candle barrel hammer feather blanket cellar tunnel castle wagon pillow needle drawer"
).split()
_VERBS = "carries follows changes protects supports delays replaces measures balances repairs warms guides".split()


def prose(words: str, least: int = 0, asks: bool = False) -> str:
    """Return English sentences that differ for different words: whole, plain, and of no meaning."""
    chance, sentences = random.Random(words), []
    while not sentences or len(" ".join(sentences)) < least:
        first, second, third = chance.sample(_NOUNS, 3)
        verb = chance.choice(_VERBS)
        if asks:
            return f"Which {first} {verb} the {second} of the old {third} number {chance.randrange(10_000)}?"
        sentences.append(f"The {first} near the {second} {verb} every {third} in house {chance.randrange(10_000)}.")
    return " ".join(sentences)


def read(asked: str) -> str | None:
    """Answer as a model that is shown a text: with a sentence's number, its question, or its words; None else."""
    last = asked.rpartition("\n")[2]
    if "Reply with its number" in asked:
        return json.dumps({"quote": int(asked.partition("[")[2].partition("]")[0])})
    if "Which question does this sentence" in asked:
        told = [word.strip(".,") for word in last.split() if len(word) > 4]
        return json.dumps({"question": f"What is there to know about {' and '.join(told[:3])}?"})
    return last if "with what is said here, in the same words" in asked else None


def fitting(schema, words, root=None):
    """Return a value that fits a JSON schema, told from others by its words."""
    root = root or schema
    if "$ref" in schema:
        return fitting(root["$defs"][schema["$ref"].rpartition("/")[2]], words, root)
    if schema.get("type") == "object":
        return {name: fitting(part, f"{words} {name}", root) for name, part in schema["properties"].items()}
    if schema.get("type") == "array":
        return [fitting(schema["items"], f"{words} {place}", root) for place in range(schema.get("minItems", 1))]
    if schema.get("type") == "boolean":
        return True
    if schema.get("type") in ("integer", "number"):
        return schema.get("minimum", 1)
    if "enum" in schema:
        return schema["enum"][0]
    return prose(words, schema.get("minLength", 0), asks=words.endswith("question"))


def written(payload):
    """Answer as a model would that always fits, and always says the same to the same request."""
    asked = json.dumps([payload["messages"], payload["options"].get("seed"), payload["model"]], sort_keys=True)
    words = " ".join(hashlib.sha256(asked.encode()).hexdigest()[place : place + 5] for place in (0, 5, 10, 15))
    form = payload.get("format")
    return json.dumps(fitting(form, words)) if form else prose(words)


def echo(payload: dict[str, Any]) -> str:
    """Answer with the last message, or with the prompt."""
    messages = payload.get("messages")
    return f"echo {messages[-1]['content'] if messages else payload['prompt']}"


class FakeServer:
    """A server on loopback in a thread of its own.

    ``faults`` is used up one a call, ``look_faults`` one a list of models: a name, or (status, headers, body).
    ``slots`` requests are served at once, the others wait without a word, as in Ollama and llama.cpp.
    """

    def __init__(self, answer: Answer = echo, *, slots: int = 4, seconds: float = 0.0, port: int = 0, tls=None):
        self.answer, self.slots, self.seconds, self.port, self.tls = answer, slots, seconds, port, tls
        #: A request with this text in it kills its connection, every time.
        self.poison = ""
        self.faults: list[Any] = []
        self.look_faults: list[Any] = []
        #: What a path answers instead of its own: (status, headers, body).
        self.odd: dict[str, tuple[int, dict[str, str], str]] = {}
        #: Returns what a chat is refused with, as ``odd``, or None.
        self.refuse: Callable[[dict[str, Any]], tuple[int, dict[str, str], str] | None] = lambda payload: None
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.in_flight = self.most_in_flight = 0
        #: Requests that are served or wait for it.
        self.present = self.most_present = 0
        #: Is called when a request was left without the end of its answer.
        self.when_stuck: Callable[[], object] = lambda: None
        self.client_left = threading.Event()
        self.request_arrived = threading.Event()
        self.chat_arrived = threading.Event()
        self._ready = threading.Event()

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    # --- the thread

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._free = asyncio.Semaphore(self.slots)
        application = web.Application(client_max_size=2**26, middlewares=[self.oddly])
        application.add_routes(self.routes())
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        with socket.create_server(("127.0.0.1", self.port), backlog=512) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
            accepting = asyncio.create_task(self._accept(listener, runner.server))
            self._ready.set()
            await self._stop.wait()
            # A connection of our own is the last that is accepted, so none is lost between there and here.
            with socket.create_connection(("127.0.0.1", self.port)):
                connecting = await accepting
        connected = await asyncio.gather(*connecting, return_exceptions=True)
        await runner.cleanup()
        for one in connected:
            if not isinstance(one, BaseException):
                transport, _ = one
                transport.abort()

    async def _accept(self, listener, protocol):
        """Take connections until the server is to stop; return the tasks that serve them."""
        connecting = []
        while not self._stop.is_set():
            connection, _ = await self._loop.sock_accept(listener)
            serving = self._loop.connect_accepted_socket(protocol, connection, ssl=self.tls)
            connecting.append(asyncio.create_task(serving))
        return connecting

    # --- one request

    @web.middleware
    async def oddly(self, request: web.Request, handler: Any) -> web.StreamResponse:
        told = self.odd.get(request.path)
        if "chat" in request.path:
            told = told or self.refuse(json.loads(await request.read() or b"{}"))
        if told is None:
            return await handler(request)
        await self.received(request)
        status, headers, body = told
        return web.Response(status=status, headers=headers, body=body)

    async def received(self, request: web.Request) -> dict[str, Any]:
        payload = json.loads(await request.read() or b"{}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, payload, headers))
        self.request_arrived.set()
        if "chat" in request.path:
            self.chat_arrived.set()
        return payload

    async def fail(self, request: web.Request, faults: list[Any]) -> web.StreamResponse | None:
        """Fail as the next fault says, or return None; some faults only begin an answer."""
        fault = faults.pop(0) if faults else None
        if self.poison and self.poison in (await request.text()):
            fault = "reset"
        if fault is None:
            return None
        if fault == "wrong content type":
            request[CONTENT_TYPE] = "text/plain"
            return None
        if isinstance(fault, tuple):
            status, headers, body = fault
            return web.Response(status=status, headers=headers, text=body)
        if fault == "reset":
            request.transport.abort()
            return web.Response()
        if fault == "hang":
            self.when_stuck()
            await asyncio.sleep(3600)
        if fault == "html":
            return web.Response(text=HTML, content_type="text/html")
        if fault == "not json":
            return web.Response(text="it works!")
        if fault == "empty":
            return web.Response(text="")
        response = web.StreamResponse()
        await response.prepare(request)
        first = self.piece("Once upon a time")
        if fault == "cut json":
            await response.write(first + self.piece("there was")[:20])
        elif fault == "cut stream":
            await response.write(first)
        elif fault == "broken connection":
            await response.write(first)
            request.transport.abort()
        elif fault == "drip":
            for number, letter in enumerate(first.decode()):
                await response.write(letter.encode())
                if number == 0:
                    self.when_stuck()
                await asyncio.sleep(1)
        elif fault == "stall":
            await response.write(first)
            self.when_stuck()
            await asyncio.sleep(3600)
        elif fault == "error in stream":
            await response.write(first + self.stream_error("the model crashed"))
        else:
            raise AssertionError(f"no such fault: {fault}")
        return response

    def piece(self, text: str) -> bytes:
        raise NotImplementedError

    def stream_error(self, text: str) -> bytes:
        raise NotImplementedError

    async def serve_slot(self, work):
        """Wait for a slot without a word, then work; a client that leaves frees it."""
        self.present += 1
        self.most_present = max(self.most_present, self.present)
        try:
            async with self._free:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                began = time.perf_counter()
                try:
                    await asyncio.sleep(self.seconds)
                    return await work(began)
                finally:
                    self.in_flight -= 1
        except (asyncio.CancelledError, ConnectionResetError):
            self.client_left.set()
            raise
        finally:
            self.present -= 1


def cut(text: str, most: int) -> tuple[list[str], str]:
    """Return the tokens of a text, at most so many, and why it ended."""
    words = text.split(" ")
    return words[:most], "length" if len(words) > most else "stop"


PULL_LINES = (
    {"status": "pulling manifest"},
    {"status": "pulling a1b2", "digest": "sha256:a1b2", "total": 1000},
    {"status": "pulling a1b2", "digest": "sha256:a1b2", "total": 1000, "completed": 400},
    {"status": "pulling a1b2", "digest": "sha256:a1b2", "total": 1000, "completed": 1000},
    {"status": "pulling c3d4", "digest": "sha256:c3d4", "total": 200, "completed": 200},
    {"status": "verifying sha256 digest"},
    {"status": "success"},
)


class FakeOllama(FakeServer):
    """Ollama 0.33 as its documentation and source have it."""

    def __init__(self, answer: Answer = echo, *, max_queue: int = 512, **options: Any):
        super().__init__(answer, **options)
        self.models = ["tiny:latest", "embedder:latest"]
        self.loaded: dict[str, int] = {}
        self.reloads = 0
        self.max_queue = max_queue
        self.waiting = 0
        #: What a pull is told, and whether it then goes on without a word.
        self.pull_lines = list(PULL_LINES)
        self.pull_holds = False

    def routes(self):
        return [
            web.post("/api/chat", self.chat),
            web.post("/api/generate", self.chat),
            web.post("/api/embed", self.embed),
            web.post("/api/show", self.show),
            web.post("/api/pull", self.pull),
            web.get("/api/tags", self.tags),
            web.get("/api/ps", self.ps),
            web.get("/api/version", self.version),
        ]

    def piece(self, text):
        return (
            json.dumps({"model": "tiny", "message": {"role": "assistant", "content": text}, "done": False}).encode()
            + b"\n"
        )

    def stream_error(self, text):
        return json.dumps({"error": text}).encode() + b"\n"

    def error(self, status: int, text: str) -> web.Response:
        return web.json_response({"error": text}, status=status)

    def missing(self, payload):
        name = payload["model"]
        if name not in self.models and f"{name}:latest" not in self.models:
            return self.error(404, f"model '{name}' not found")
        return None

    async def chat(self, request):
        payload = await self.received(request)
        generates = request.path.endswith("generate")
        loads = generates and not payload.get("prompt")
        if not loads and (failed := await self.fail(request, self.faults)) is not None:
            return failed
        if refused := self.missing(payload):
            return refused
        options = payload.get("options") or {}
        if not isinstance(options.get("temperature", 0.0), int | float):
            return self.error(500, 'option "temperature" must be of type float32')
        num_ctx = options.get("num_ctx", 4096)
        if self.loaded.get(payload["model"]) != num_ctx:
            self.reloads += 1
            self.loaded = {payload["model"]: num_ctx}
        if loads:
            return web.json_response({"model": payload["model"], "response": "", "done": True, "done_reason": "load"})
        texts = (
            [payload.get("system", ""), payload["prompt"]]
            if generates
            else [turn["content"] for turn in payload["messages"]]
        )
        read = sum(len(text.split()) for text in texts)
        if read > num_ctx and payload.get("truncate") is False:
            return self.error(400, "the input length exceeds the context length")
        if self.waiting >= self.max_queue:
            return self.error(503, "server busy, please try again.  maximum pending requests exceeded")
        self.waiting += 1

        async def answer(began):
            self.waiting -= 1
            most = options.get("num_predict", -1)
            return await self.stream(request, payload, generates, min(read, num_ctx), most, began)

        return await self.serve_slot(answer)

    async def stream(self, request, payload, generates, read, most, began):
        words, reason = cut(self.answer(payload), most if most > 0 else 10_000)
        told = {"model": payload["model"], "created_at": "2026-11-22T00:00:00Z"}

        def event(text, **more):
            held = {"response": text} if generates else {"message": {"role": "assistant", "content": text}}
            return {**told, **held, "done": False, **more}

        final = {
            "done": True,
            "done_reason": reason,
            "total_duration": 3_000_000,
            "load_duration": 0,
            "prompt_eval_count": read,
            "prompt_eval_duration": 0,
            "eval_count": len(words),
            "eval_duration": max(1_000_000, int((time.perf_counter() - began) * 1e9)),
        }
        if payload.get("stream", True) is False:
            return web.json_response(event(" ".join(words), **final))
        response = web.StreamResponse(headers={"content-type": request.get(CONTENT_TYPE, "application/x-ndjson")})
        await response.prepare(request)
        pieces = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
        for data in [*(event(piece) for piece in pieces), event("", **final)]:
            await response.write(json.dumps(data).encode() + b"\n")
        return response

    async def embed(self, request):
        payload = await self.received(request)
        if (failed := await self.fail(request, self.faults)) is not None:
            return failed
        if refused := self.missing(payload):
            return refused
        texts = payload["input"] if isinstance(payload["input"], list) else [payload["input"]]
        vectors = [[float(len(text)), 1.0] for text in texts]
        return web.json_response(
            {
                "model": payload["model"],
                "embeddings": vectors,
                "prompt_eval_count": sum(len(text.split()) for text in texts),
            }
        )

    async def show(self, request):
        payload = await self.received(request)
        if refused := self.missing(payload):
            return refused
        facts = {"general.architecture": "llama", "llama.context_length": 8192}
        return web.json_response(
            {"details": {"family": "llama"}, "model_info": facts, "capabilities": ["completion", "tools"]}
        )

    async def pull(self, request):
        """Pull a model in two layers: told line by line, as ``pull_lines`` has it, and held there if ``pull_holds``."""
        model = (await self.received(request))["model"]
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        for line in self.pull_lines:
            await response.write(json.dumps(line).encode() + b"\n")
        if self.pull_holds:
            try:
                await asyncio.Event().wait()
            finally:
                self.client_left.set()
        if self.pull_lines and self.pull_lines[-1].get("status") == "success":
            self.models.append(model)
        return response

    async def tags(self, request):
        await self.received(request)
        if (failed := await self.fail(request, self.look_faults)) is not None:
            return failed
        listed = [
            {
                "name": name,
                "model": name,
                "size": 98_000_000,
                "digest": f"{number:064x}",
                "details": {"family": "llama"},
            }
            for number, name in enumerate(self.models)
        ]
        listed[-1:] = [{**model, "capabilities": ["embedding"]} for model in listed[-1:] if len(listed) > 1] or listed[
            -1:
        ]
        return web.json_response({"models": listed})

    async def ps(self, request):
        await self.received(request)
        listed = [
            {"name": name, "model": name, "size": 98_000_000, "context_length": size}
            for name, size in self.loaded.items()
        ]
        return web.json_response({"models": listed})

    async def version(self, request):
        return web.json_response({"version": "0.33.0"})


class FakeOpenAI(FakeServer):
    """A server of the OpenAI protocol; with a ``key`` it wants one."""

    key = ""

    def routes(self):
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embeddings),
            web.get("/v1/models", self.list_models),
        ]

    def piece(self, text):
        return b"data: " + json.dumps(self.chunk({"content": text})).encode() + b"\n\n"

    def stream_error(self, text):
        return b"data: " + json.dumps({"error": {"message": text, "type": "server_error"}}).encode() + b"\n\n"

    def chunk(self, delta, reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}

    async def refused(self, request):
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            error = {
                "message": "Incorrect API key provided",
                "type": "invalid_request_error",
                "code": "invalid_api_key",
            }
            return web.json_response({"error": error}, status=401)
        return None

    async def chat(self, request):
        payload = await self.received(request)
        if failed := (await self.refused(request) or await self.fail(request, self.faults)):
            return failed
        if payload["model"] != "tiny":
            error = {"message": f"The model `{payload['model']}` does not exist", "code": "model_not_found"}
            return web.json_response({"error": error}, status=404)
        return await self.serve_slot(lambda began: self.stream(request, payload))

    async def stream(self, request, payload):
        words, reason = cut(self.answer(payload), payload.get("max_tokens", 10_000))
        usage = {"prompt_tokens": 7, "completion_tokens": len(words), "total_tokens": 7 + len(words)}
        if not payload.get("stream"):
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            whole = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": "tiny",
                "choices": [choice],
                "usage": usage,
            }
            return web.json_response(whole)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        pieces = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
        events = [self.chunk({"content": piece}) for piece in pieces] + [self.chunk({}, reason)]
        if (payload.get("stream_options") or {}).get("include_usage"):
            events.append({**self.chunk({}), "choices": [], "usage": usage})
        for event in events:
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def embeddings(self, request):
        payload = await self.received(request)
        if failed := (await self.refused(request) or await self.fail(request, self.faults)):
            return failed
        rows = [
            {"object": "embedding", "index": n, "embedding": [float(len(text)), 1.0]}
            for n, text in enumerate(payload["input"])
        ]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return web.json_response({"object": "list", "data": rows[::-1], "model": payload["model"], "usage": usage})

    async def list_models(self, request):
        if failed := await self.refused(request):
            return failed
        return web.json_response(
            {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "us"}]}
        )


def closed_port() -> int:
    """Return a port of loopback on which nobody listens."""
    import socket

    with socket.socket() as door, suppress(OSError):
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]
    raise AssertionError("no port is free")


def using(backend: Any, work: Callable[[Any], Any]) -> Any:
    """Await what a function asks of a backend, on Cerebro's loop, and close the backend."""
    from cerebro_nb.concurrency.loop import LOOP

    async def use():
        try:
            return await work(backend)
        finally:
            await backend.aclose()

    return LOOP.run(use())
