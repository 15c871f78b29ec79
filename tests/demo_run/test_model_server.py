"""The demo's model speaks OpenAI's protocol well enough for AutoGen's real client."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    UserMessage,
)
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient

from tenantscope.demo.canaries import Canaries, new_marker
from tenantscope.demo.model_server import Model, ModelServer


class Stub:
    def __init__(self) -> None:
        self.canaries = Canaries(new_marker())
        self.waited: list[float] = []
        self.server = ModelServer(self.canaries.plant, sleep=self.waited.append)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    stub.server.start()
    yield stub
    stub.server.close()


@asynccontextmanager
async def client_of(stub: Stub) -> AsyncIterator[OpenAIChatCompletionClient]:
    client = OpenAIChatCompletionClient(model="gpt-4o-mini", api_key="sk-demo", base_url=stub.server.url, max_retries=0)
    try:
        yield client
    finally:
        await client.close()


def ask(stub: Stub, question: Callable[[OpenAIChatCompletionClient], Awaitable[CreateResult]]) -> CreateResult:
    async def run() -> CreateResult:
        async with client_of(stub) as client:
            return await question(client)

    return asyncio.run(run())


async def look_up(customer: str, depth: int) -> str:
    """Look a customer up."""
    return f"{customer} {depth}"


TOOL = FunctionTool(look_up, description="Look a customer up")
QUESTION = UserMessage(content="Where is order-4711?", source="user")


def tool_round(result: str) -> list[LLMMessage]:
    call = FunctionCall(id="call_1", name="look_up", arguments="{}")
    answer = FunctionExecutionResult(content=result, name="look_up", call_id="call_1")
    return [
        QUESTION,
        AssistantMessage(content=[call], source="worker"),
        FunctionExecutionResultMessage(content=[answer]),
    ]


def test_an_answer_repeats_what_was_asked_and_counts_tokens(stub: Stub) -> None:
    """What stands in the prompt stands in the answer, next to a canary of the model's own."""
    result = ask(stub, lambda client: client.create([QUESTION]))
    assert isinstance(result.content, str)
    assert "order-4711" in result.content
    assert stub.canaries.planted()[0] in result.content
    assert result.finish_reason == "stop"
    assert result.usage.prompt_tokens > 0
    assert result.usage.completion_tokens > 0


def test_an_offered_tool_is_called_first_with_a_canary_in_its_arguments(stub: Stub) -> None:
    """Tools are offered and there is no result yet: a call that fits the tool's schema."""
    result = ask(stub, lambda client: client.create([QUESTION], tools=[TOOL]))
    assert result.finish_reason == "function_calls"
    assert isinstance(result.content, list)
    (call,) = result.content
    arguments = json.loads(call.arguments)
    assert call.name == "look_up"
    assert stub.canaries.planted()[0] in arguments["customer"]
    assert isinstance(arguments["depth"], int)


def test_after_a_tool_result_it_speaks_and_repeats_the_result(stub: Stub) -> None:
    """The result is there, so the same tool is not called for ever."""
    result = ask(stub, lambda client: client.create(tool_round("it is in the attic"), tools=[TOOL]))
    assert isinstance(result.content, str)
    assert "it is in the attic" in result.content


def test_a_new_question_after_a_tool_result_calls_the_tool_again(stub: Stub) -> None:
    """Only results since the last question count."""
    messages = [*tool_round("attic"), QUESTION]
    assert ask(stub, lambda client: client.create(messages, tools=[TOOL])).finish_reason == "function_calls"


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_a_stream_says_the_same_as_a_whole_answer(stub: Stub, tools: list[FunctionTool]) -> None:
    """Streamed pieces add up to the final result, which has the usage."""

    async def run() -> list[str | CreateResult]:
        async with client_of(stub) as client:
            return [piece async for piece in client.create_stream([QUESTION], tools=tools, include_usage=True)]

    *pieces, result = asyncio.run(run())
    assert isinstance(result, CreateResult)
    assert result.usage.prompt_tokens > 0
    if tools:
        assert isinstance(result.content, list)
        assert stub.canaries.planted()[0] in result.content[0].arguments
    else:
        assert len(pieces) > 1
        assert "".join(map(str, pieces)) == result.content


def test_without_asking_for_it_a_stream_has_no_usage(stub: Stub) -> None:
    """As with the real service, `include_usage` has to be asked for."""

    async def run() -> list[str | CreateResult]:
        async with client_of(stub) as client:
            return [piece async for piece in client.create_stream([QUESTION])]

    *_, result = asyncio.run(run())
    assert isinstance(result, CreateResult)
    assert result.usage.prompt_tokens == 0


def test_every_answer_waits_its_20_to_60_milliseconds(stub: Stub) -> None:
    """Latency is realistic, and the same in every run."""
    ask(stub, lambda client: client.create([QUESTION]))
    model = Model(stub.canaries.plant)
    assert stub.waited == [model.latency(1)]
    assert all(0.020 <= model.latency(number) <= 0.060 for number in range(1000))
    assert len({model.latency(number) for number in range(1000)}) > 10


@pytest.mark.parametrize(
    ("path", "key", "body", "status"),
    [
        ("/v1/chat/completions", "Bearer x", b"{not json", 400),
        ("/v1/chat/completions", "Bearer x", b"[]", 400),
        ("/v1/chat/completions", "Bearer x", b'{"model": "m"}', 400),
        ("/v1/chat/completions", "", b"{}", 401),
        ("/v1/embeddings", "Bearer x", b"{}", 404),
    ],
)
def test_a_bad_request_is_refused_and_the_server_lives_on(
    stub: Stub, path: str, key: str, body: bytes, status: int
) -> None:
    """Refused with an OpenAI-shaped error; the same connection can be used again."""
    host = stub.server.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        for _ in range(2):
            connection.request("POST", path, body, {"authorization": key} if key else {})
            response = connection.getresponse()
            assert "message" in json.loads(response.read())["error"]
            assert response.status == status
    finally:
        connection.close()


def test_an_oversized_request_is_refused_unread(stub: Stub) -> None:
    """The length alone decides; nothing of the body is taken into memory."""
    host = stub.server.url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("content-length", str(1 << 40))
        connection.endheaders()
        assert connection.getresponse().status == 413
    finally:
        connection.close()
