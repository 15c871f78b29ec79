"""A small OpenAI-compatible model on the loopback: no key, no network, the same answer to the same question.

It answers `POST /chat/completions` (also below `/v1`), at once or as a stream of server-sent events. Offered
tools and no result yet, it calls the first tool; otherwise it says something that repeats what it was told,
so that whatever stood in the prompt also stands in the answer. Latency is 20 to 60 ms.

It runs in threads, apart from the event loop that the demo watches. What it refuses: bodies over 4 MB,
requests without a key.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_MAX_BODY: Final = 4 << 20
_ECHO_CHARACTERS: Final = 600
_CHARACTERS_A_TOKEN: Final = 4
# Asked for an alias, the real service answers as the dated model behind it, and clients check that.
_DATED: Final = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18"}

Json = dict[str, Any]


class ModelServer:
    """The stub server.

    Args:
        plant: called with a place, returns the canary to put there (tool arguments, answers).
        sleep: how a request waits for its answer, in seconds.
    """

    def __init__(self, plant: Callable[[str], str], sleep: Callable[[float], None] = time.sleep) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.model = Model(plant)
        self._server.sleep = sleep
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="model", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class Model:
    """Decides what is answered; knows nothing of HTTP."""

    def __init__(self, plant: Callable[[str], str]) -> None:
        self._plant = plant
        self._numbers = itertools.count(1)

    def latency(self, number: int) -> float:
        """Seconds to wait before answer `number`: 20 to 60 ms, the same in every run."""
        return 0.020 + (number * 13 % 41) / 1000

    def answer(self, request: Json) -> tuple[int, Json]:
        """The answer's number, and a whole chat completion."""
        number = next(self._numbers)
        messages = request["messages"]
        since_question = list(itertools.takewhile(lambda m: m.get("role") != "user", reversed(messages)))
        has_result = any(message.get("role") == "tool" for message in since_question)
        tools = request.get("tools")
        message: Json = {"role": "assistant", "content": None}
        if tools and not has_result:
            message["tool_calls"] = [self._tool_call(number, tools[0]["function"])]
            spoken = json.dumps(message["tool_calls"])
        else:
            message["content"] = spoken = self._say(messages)
        prompt_tokens = len(json.dumps(messages)) // _CHARACTERS_A_TOKEN
        completion_tokens = 1 + len(spoken) // _CHARACTERS_A_TOKEN
        return number, {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": _DATED.get(request["model"], request["model"]),
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
                    "logprobs": None,
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }

    def _tool_call(self, number: int, function: Json) -> Json:
        properties: Json = function.get("parameters", {}).get("properties", {})
        arguments = {name: self._argument(schema) for name, schema in properties.items()}
        call = {"name": function["name"], "arguments": json.dumps(arguments)}
        return {"id": f"call_{number}", "type": "function", "function": call}

    def _argument(self, schema: Json) -> object:
        kind = schema.get("type")
        if kind == "string":
            return f"customer {self._plant('tool argument')}"
        return {"integer": 7, "number": 0.5, "boolean": True, "array": [], "object": {}}.get(str(kind))

    def _say(self, messages: list[Json]) -> str:
        heard = " / ".join(str(message["content"]) for message in messages[-3:] if message.get("content"))
        return f"Done ({self._plant('model answer')}). You said: {heard[-_ECHO_CHARACTERS:]}"


def chunks(completion: Json, with_usage: bool) -> Iterator[Json]:
    """The chunks of a stream that says the same as `completion`."""
    frame = {key: completion[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = completion["choices"][0]
    message = choice["message"]

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    for index, call in enumerate(message.get("tool_calls", ())):
        yield chunk({"tool_calls": [{"index": index} | call]})
    content = message["content"] or ""
    for start in range(0, len(content), 60):
        yield chunk({"content": content[start : start + 60]})
    yield chunk({}, choice["finish_reason"])
    if with_usage:
        yield frame | {"choices": [], "usage": completion["usage"]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    model: Model
    sleep: Callable[[float], None]

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > _MAX_BODY:
            self.close_connection = True
            return self._fail(413, "the request is too large")
        body = self.rfile.read(length)
        if self.path.removeprefix("/v1") != "/chat/completions":
            return self._fail(404, "no such path")
        if not self.headers.get("authorization", "").startswith("Bearer "):
            return self._fail(401, "no API key")
        try:
            request = json.loads(body)
            number, completion = self.server.model.answer(request)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return self._fail(400, "not a chat completion request")
        self.server.sleep(self.server.model.latency(number))
        if request.get("stream"):
            options = request.get("stream_options") or {}
            return self._stream(chunks(completion, bool(options.get("include_usage"))))
        return self._send(200, completion)

    def _stream(self, events: Iterator[Json]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _fail(self, status: int, why: str) -> None:
        self._send(status, {"error": {"message": why, "type": "invalid_request_error", "param": None, "code": None}})

    def _send(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is http.server's
        """Requests hold content: nothing is logged."""
