"""AutoGen's llama.cpp client with the real llama.cpp under it, and a model with random weights that the test makes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp", reason="compiled for minutes, so `make test-heavy` alone has it")
pytest.importorskip("gguf")
pytest.importorskip("numpy")

import gguf
import numpy
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import one_tree
from autogen_core.models import UserMessage
from autogen_ext.models.llama_cpp import LlamaCppChatCompletionClient

from instrumentation import tenant
from instrumentation.testing import Captured, capture

ASK = [UserMessage(content="s3cr3t-prompt", source="u")]
FEW: Any = {"max_tokens": 8}
WIDTH, INNER = 32, 64


def tensors() -> dict[str, Any]:
    """One layer of the architecture `llama` over a vocabulary of single bytes."""
    random = numpy.random.default_rng(7)

    def weights(*shape: int) -> Any:
        return random.standard_normal(shape, dtype=numpy.float32) / 10

    ones = numpy.ones(WIDTH, dtype=numpy.float32)
    return {
        "token_embd": weights(259, WIDTH), "output_norm": ones, "output": weights(259, WIDTH),
        **{f"blk.0.attn_{which}": weights(WIDTH, WIDTH) for which in ("q", "k", "v", "output")},
        "blk.0.attn_norm": ones, "blk.0.ffn_norm": ones, "blk.0.ffn_gate": weights(INNER, WIDTH),
        "blk.0.ffn_up": weights(INNER, WIDTH), "blk.0.ffn_down": weights(WIDTH, INNER),
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of some 100 kB that llama.cpp loads and runs."""
    path = tmp_path_factory.mktemp("s3cr3t-folder") / "random.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    for name, values in tensors().items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def client(model: Path) -> LlamaCppChatCompletionClient:
    return LlamaCppChatCompletionClient(model_path=str(model), n_ctx=512, n_threads=1, seed=1, verbose=False)


def test_what_a_call_says(model: Path, captured: Captured) -> None:
    """Provider, the model's file without its folder, tokens as llama.cpp counts them, why it stopped."""

    async def main() -> Any:
        with tenant("acme"):
            return await client(model).create(ASK, extra_create_args=FEW)

    result = asyncio.run(main())
    (span,) = captured.spans()
    assert span.name == "chat random.gguf"
    about = dict(span.attributes or {})
    assert about["tenant.id"] == "acme"
    assert about["gen_ai.provider.name"] == "llama_cpp"
    assert about["gen_ai.usage.input_tokens"] == result.usage.prompt_tokens > 0
    assert about["gen_ai.usage.output_tokens"] == result.usage.completion_tokens > 0
    assert about["gen_ai.response.finish_reasons"] == (result.finish_reason,)
    assert "s3cr3t" not in span.to_json()


def test_a_stream_that_the_client_does_not_have(model: Path, captured: Captured) -> None:
    """AutoGen's client refuses to stream: so it does when it is watched, and the call has failed."""

    async def main() -> None:
        async for _ in client(model).create_stream(ASK):
            raise AssertionError("this AutoGen streams: test it as the other providers' clients are")

    with pytest.raises(NotImplementedError):
        asyncio.run(main())
    (span,) = captured.spans()
    assert (span.attributes or {})["error.type"] == "NotImplementedError"


def test_tenants_whose_models_run_in_threads(model: Path, captured: Captured) -> None:
    """Three tenants at once, each a team with a model of its own that works in the loop's executor: a tree each."""

    async def run(who: str) -> None:
        with tenant(who):
            agent = AssistantAgent("writer", client(model), system_message=None)
            await RoundRobinGroupChat([agent], max_turns=1).run(task="go")

    async def main() -> None:
        await asyncio.gather(*(run(who) for who in ("acme", "globex", "initech")))

    asyncio.run(main())
    for who in ("acme", "globex", "initech"):
        spans = [span for span in captured.spans() if (span.attributes or {})["tenant.id"] == who]
        one_tree(spans)
        (call,) = [span for span in spans if span.name.startswith("chat")]
        assert (call.attributes or {})["gen_ai.agent.name"] == "writer"


def test_a_watched_client_does_what_a_bare_one_does(model: Path) -> None:
    """The same result of the same seed."""

    async def main() -> str:
        return repr(await client(model).create(ASK, extra_create_args=FEW))

    bare = asyncio.run(main())
    with capture():
        assert asyncio.run(main()) == bare
