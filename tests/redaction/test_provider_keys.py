"""Keys by what providers let them begin with, and names that begin so, too: which is found, and which is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.redaction import provider_keys
from sidecar.redaction.detectors import LONG, detect, surest
from sidecar.redaction.guilt import surest_among
from sidecar.redaction.innocence import doubtful_among

ANY = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0" * 4
HEX = "0a1b2c3d4e5f60718293a4b5c6d7e8f9" * 2
CAPS = "A1B2C3D4E5F6G7H8I9J0K1L2M3N4O5P6"
UUID = "9a43228e-a8f4-40c7-b346-8896c517a085"

# As each provider makes them; nobody's.
KEYS = {
    "aws": [f"AKIA{CAPS[:16]}", f"ASIA{CAPS[:16]}", f"ABIA{CAPS[:16]}", f"ACCA{CAPS[:16]}", f"A3TX{CAPS[:16]}"],
    "bedrock": [f"ABSK{ANY[:110]}", f"bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t{ANY[:20]}"],
    "anthropic": [f"sk-ant-api03-{ANY[:93]}AA", f"sk-ant-admin01-{ANY[:93]}AA"],
    "openai": [f"sk-{ANY[:20]}T3BlbkFJ{ANY[:20]}", f"sk-proj-{ANY[:74]}", f"sk-svcacct-{ANY[:74]}",
               f"sk-admin-{ANY[:58]}"],
    "google": [f"AIza{ANY[:35]}", f"AQ.Ab8RN6{ANY[:44]}", f"ya29.{ANY[:60]}", f"GOCSPX-{ANY[:28]}"],
    "models": [
        f"gsk_{ANY[:52]}", f"xai-{ANY[:80]}", f"pplx-{ANY[:48]}", f"hf_{ANY[:34]}", f"api_org_{ANY[:34]}",
        f"r8_{ANY[:37]}",
        f"nvapi-{ANY[:64]}", f"tgp_v1_{ANY[:43]}", f"fw_{ANY[:24]}", f"csk-{ANY[:48]}", f"sk-{HEX[:32]}",
        f"sk-or-v1-{HEX}", f"bce-v3/ALTAK-{ANY[:21]}/{HEX[:40]}", f"jina_{ANY[:60]}", f"sk_{HEX[:48]}", f"rpa_{CAPS}",
    ],
    "tools of agents": [
        f"tvly-dev-{ANY[:32]}", f"tvly-{ANY[:32]}", f"fc-{HEX[:32]}", f"e2b_{HEX[:40]}", f"apify_api_{ANY[:36]}",
        f"pcsk_{ANY[:6]}_{ANY[:63]}",
    ],
    "traces": [
        f"lsv2_pt_{HEX[:32]}_{HEX[:10]}", f"sk-lf-{UUID}", f"pk-lf-{UUID}", f"pylf_v1_us_{ANY[:43]}",
        f"wandb_v1_{ANY[:77]}",
        f"glsa_{ANY[:32]}_{HEX[:8]}", f"glc_eyJ{ANY[:60]}", f"sntrys_eyJ{ANY[:80]}", f"phx_{ANY[:43]}",
        f"NRAK-{CAPS[:27]}",
        f"dt0c01.{CAPS[:24]}.{CAPS * 2}",
    ],
    "code": [
        f"ghp_{ANY[:36]}", f"ghs_{ANY[:36]}", f"github_pat_{ANY[:22]}_{ANY[:59]}", f"glpat-{ANY[:20]}",
        f"glrt-{ANY[:20]}",
        f"gldt-{ANY[:20]}", f"glptt-{HEX[:40]}", f"glcbt-1a_{ANY[:20]}", f"glsoat-{ANY[:20]}", f"npm_{ANY[:36]}",
        f"pypi-AgEIcHlwaS5vcmc{ANY[:60]}", f"rubygems_{HEX[:48]}", f"dckr_pat_{ANY[:27]}", f"ATBB{ANY[:32]}",
        f"ATATT3xFfGF0{ANY[:150]}", f"lin_api_{ANY[:40]}", f"ntn_{ANY[:46]}", f"figd_{ANY[:40]}",
        f"PMAK-{HEX[:24]}-{HEX[:34]}",
    ],
    "clouds": [
        f"dop_v1_{HEX}", f"doo_v1_{HEX}", f"HRKU-AA{ANY[:58]}", f"nfp_{ANY[:36]}", f"fm2_{ANY[:60]}", f"LTAI{ANY[:20]}",
        f"AKID{ANY[:32]}", f"sbp_{HEX[:40]}", f"sb_secret_{ANY[:31]}", f"pscale_tkn_{ANY[:43]}", f"napi_{HEX}",
        f"mdb_sa_sk_{ANY[:40]}", f"hvs.{ANY[:90]}", f"dp.pt.{ANY[:43]}", f"pul-{HEX[:40]}", f"sha256~{ANY[:43]}",
        f"tskey-auth-{ANY[:12]}-{ANY[:32]}", f"AKCp{ANY[:69]}",
    ],
    "business": [
        f"sk_live_{ANY[:24]}", f"rk_live_{ANY[:24]}", f"whsec_{ANY[:32]}", f"SG.{ANY[:22]}.{ANY[:43]}", f"SK{HEX[:32]}",
        f"key-{HEX[:32]}", f"{HEX[:32]}-us12", f"shpat_{HEX[:32]}", f"shpss_{HEX[:32]}", f"shpca_{HEX[:32]}",
        f"sq0csp-{ANY[:43]}", f"re_{ANY[:8]}_{ANY[:24]}", f"xoxb-1234567890-{ANY[:24]}",
        f"xapp-1-{CAPS[:11]}-{HEX[:40]}",
    ],
    "der": [f"MIIEpAIBAAKCAQEA{ANY[:40]}", f"MIIBIjANBgkqhkiG9w0B{ANY[:40]}", "AGE-SECRET-KEY-1" + CAPS],
}  # fmt: skip

NAMES = """
    sk_learn_classifier_agent sk-learn-random-forest hf_hub_download_and_parse hf-transformers-text-generation
    npm_install_and_run_everything jina_embeddings_v3_base xai-grok-code-fast-1-preview pk-worker-pool-manager
    rk-controller-of-agents gsk_vaccine_research_assistant pplx-70b-online-sonar-large task_manager_with_sk_prefix
    monkey-patching-agent key-value-store-writer re_ranking_and_retrieval bedrock-api-key-rotation sha256-checker
    fw_update_and_restart_device glc_land_cover_classifier_v2 dp.data.processing.pipeline MIIRecruitingAssistant
    token_counter:count secret_santa password_reset_agent api_key_rotator basic_agent:planner bearer_token_validator
    compass:north session_manager:start author=no-one
    2024-08-06T12:00:00Z 2024-08-06-12-00-00 2025-11-27_01-32-13 v20251127 1.2.3 2.0.0.dev4 build-20251127.1
    4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 a1b2c3d
    1a2b3c4d5e6f sha-1a2b3c4 python3.11/site-packages/autogen_core/_single_threaded_agent_runtime.py
    src/agents/planner.py:120 /usr/lib/python3.11/asyncio/base_events.py:1936 C:/Users/app/agents/planner.py
    autogen_agentchat.agents._assistant_agent.AssistantAgent urllib3.exceptions.NewConnectionError
    autogen_ext.models.openai._openai_client.OpenAIChatCompletionClient botocore.errorfactory.ThrottlingException
    RoundRobinGroupChatManager_0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11 grpc.aio._call.AioRpcError
    sqlalchemy.exc.IntegrityError
    claude-opus-4-5-20251101 claude-haiku-4-5-20251001 gpt-5-mini-2025-08-07 gpt-5.1-codex-max grok-4-fast-non-reasoning
    o4-mini-deep-research-2025-06-26 gpt-4o-realtime-preview-2025-06-03 models/gemini-2.0-flash-lite-001
    deepseek/deepseek-r1-0528-qwen3-8b:free accounts/fireworks/models/llama-v3p1-405b-instruct kimi-k2-0905-preview
    eu.anthropic.claude-3-7-sonnet-20250219-v1:0 us.meta.llama3-3-70b-instruct-v1:0 mistral-small-24b-instruct-2501
    hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M TheBloke/Mistral-7B-Instruct-v0.2-GGUF
    qwen3-235b-a22b-instruct-2507
    nvidia/llama-3.1-nemotron-ultra-253b-v1 amazon.nova-pro-v1:0 text-embedding-ada-002-v2 whisper-large-v3-turbo
    pod-7d9f8b6c5d-x2x9z i-0abcd1234ef567890 gke-prod-pool-1-8f3d2a1b-x9k2 DESKTOP-7A8B9C0 acme-prod-eu-1
    customer_12345 org_2abcDEF3ghIJK acme/eu/7 01HZX3V9Q8R7K2M5N6P4T1W0YB cus_NffrFeUfNV2Hib acct_1032D82eZvKYlo2C
""".split()  # noqa: SIM905  # to be read, not quoted word by word


@pytest.mark.parametrize(("provider", "key"), [(provider, key) for provider, keys in KEYS.items() for key in keys])
def test_keys_of_providers_are_found(provider: str, key: str) -> None:
    """Alone, behind and before a name; alone and among others; and none of them is innocent."""
    del provider
    for text in (key, f"planner_{key}", f"planner-{key}", f"x:{key}", f"{key}:x"):
        # A beginning of two kinds of token may be either; a JWT's is in some.
        assert detect(text) in ("key", "jwt", "credential"), text
        assert surest_among([text.encode()])[text.encode()] == surest(text)
        assert 1 in doubtful_among([b"planner", text.encode(), b"writer"])


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_like_keys_are_left_alone(name: str) -> None:
    """Of tools, models, versions, hosts, dates, classes, files: whoever loses them switches this off."""
    assert detect(name) is None


@given(
    st.from_regex(
        rf"(?:[a-z.]{{0,5}}[_.:/-])?(?:{provider_keys.KEY_FORMS})[a-z.]{{0,3}}",
        fullmatch=True,
        alphabet=st.characters(codec="ascii"),
    ),
    st.booleans(),
)
@settings(max_examples=1500, deadline=None)
def test_no_short_cut_past_a_beginning_loses_a_key(text: str, shout: bool) -> None:
    """Whatever has the form of a key begins as the short cuts expect it, in whatever case the form allows."""
    text = text.upper() if shout else text
    if provider_keys.has_key(text):
        assert provider_keys.has_key_in_small(text, text.lower())
        assert len(text) >= LONG
        assert surest(text) is not None
        assert doubtful_among([text.encode()]) == [0]
