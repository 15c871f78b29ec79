"""A server that speaks model providers' protocols: OpenAI (and Azure OpenAI), Anthropic, Ollama, Azure AI Inference.

It answers what the providers' documentation says, streamed or not, fails as often as it is told to before it answers,
and can be made to hang. What it says are canaries: text that must never be found in telemetry.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = ("s3cr3t-", "answer")
ERROR = "s3cr3t-error"
INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING = 11, 7, 4, 2, 3
Json = dict[str, Any]


class ModelServer:
    """Attributes:
    failures: statuses to answer with before the next answer proper.
    gate: requests wait until it is set.
    requests: (path, headers, body) of every request.
    """

    def __init__(self) -> None:
        self.failures: deque[int] = deque()
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        self.requests: list[tuple[str, dict[str, str], Json]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner = self.owner
        owner.requests.append((self.path, dict(self.headers.items()), body))
        owner.arrived.set()
        owner.gate.wait(30)
        if owner.failures:
            self._send(owner.failures.popleft(), "application/json", [_line({"error": {"message": ERROR}})])
        elif self.path.startswith("/v1/messages"):
            self._answer(body, anthropic(body), anthropic_events())
        elif self.path.startswith("/api/chat"):
            if body["stream"]:
                self._send(200, "application/x-ndjson", map(_line, ollama_pieces(body)))
            else:
                self._send(200, "application/json", [_line(ollama(body, "".join(ANSWER)))])
        else:
            self._answer(body, openai(body), openai_chunks(body))

    def _answer(self, body: Json, whole: Json, events: Iterator[str]) -> None:
        if body.get("stream"):
            self._send(200, "text/event-stream", (event.encode() for event in events))
        else:
            self._send(200, "application/json", [_line(whole)])

    def _send(self, status: int, kind: str, pieces: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("retry-after-ms", "1")  # SDKs that try again do so at once
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # whoever asked has gone

    def log_message(self, *_: object) -> None:
        return None


def _line(value: Json) -> bytes:
    return json.dumps(value).encode() + b"\n"


def openai(body: Json) -> Json:
    """`POST /v1/chat/completions`; Azure's two services answer alike."""
    message = {"role": "assistant", "content": "".join(ANSWER), "refusal": None}
    return {
        "id": "s3cr3t-id", "object": "chat.completion", "created": 1,
        "model": body.get("model", "gpt-4o") + "-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _openai_usage(),
    }  # fmt: skip


def _openai_usage() -> Json:
    return {
        "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHE_READ},
        "completion_tokens_details": {"reasoning_tokens": REASONING},
    }  # fmt: skip


def openai_chunks(body: Json) -> Iterator[str]:
    """The same, streamed: usage comes last, in a chunk without choices, when it was asked for."""

    def chunk(delta: Json | None, finish: str | None = None, usage: Json | None = None) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        about = {"id": "s3cr3t-id", "object": "chat.completion.chunk", "created": 1}
        model = body.get("model", "gpt-4o") + "-2024-08-06"
        return f"data: {json.dumps({**about, 'model': model, 'choices': choices, 'usage': usage})}\n\n"

    for text in ANSWER:
        yield chunk({"role": "assistant", "content": text})
    yield chunk({}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield chunk(None, usage=_openai_usage())
    yield "data: [DONE]\n\n"


def _anthropic_usage(output: int) -> Json:
    return {
        "input_tokens": INPUT, "output_tokens": output, "cache_read_input_tokens": CACHE_READ,
        "cache_creation_input_tokens": CACHE_WRITE,
    }  # fmt: skip


def anthropic(body: Json) -> Json:
    """`POST /v1/messages`."""
    return {
        "id": "s3cr3t-id", "type": "message", "role": "assistant", "model": body["model"],
        "content": [{"type": "text", "text": "".join(ANSWER)}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": _anthropic_usage(OUTPUT),
    }  # fmt: skip


def anthropic_events() -> Iterator[str]:
    """The same, streamed."""
    message = {
        "id": "s3cr3t-id", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": _anthropic_usage(1),
    }  # fmt: skip
    events: list[Json] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}} for t in ANSWER),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT},
        },
        {"type": "message_stop"},
    ]
    for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def ollama(body: Json, text: str, done: bool = True) -> Json:
    """`POST /api/chat`."""
    found: Json = {
        "model": body["model"],
        "created_at": "2024-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": text},
        "done": done,
    }
    if done:
        found |= {"done_reason": "stop", "prompt_eval_count": INPUT, "eval_count": OUTPUT, "total_duration": 5}
    return found


def ollama_pieces(body: Json) -> Iterator[Json]:
    """The same, streamed: one JSON object a line."""
    for text in ANSWER:
        yield ollama(body, text, done=False)
    yield ollama(body, "")


@contextmanager
def running_model_server() -> Iterator[ModelServer]:
    """A server, for a while."""
    server = ModelServer()
    try:
        yield server
    finally:
        server.close()
