"""Which traces are kept: the standard samplers, and a share for single tenants. Metrics count everything."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId

from instrumentation import tenant
from instrumentation.settings import ConfigurationError, Settings
from instrumentation.testing import capture

TENANTS = ("acme", "globex", "initech")


async def sends(each: int) -> None:
    runtime = await ask_runtime(asked=lambda: Asked(deeper=AgentId("deeper", "k")), deeper=Asked)
    runtime.start()
    for who in TENANTS:
        with tenant(who):
            for _ in range(each):
                await runtime.send_message(Ask("x"), AgentId("asked", who))
    await runtime.stop_when_idle()


def kept(each: int = 20, **settings: object) -> Counter[object]:
    """Traces by tenant; every one whole, and every message in the metrics."""
    with capture(**settings) as captured:
        asyncio.run(sends(each))
        spans = [span for span in captured.spans() if span.name.startswith("process")]
        messages = {(p.attributes or {})["autogen.message.outcome"]: 0.0 for p in captured.points("autogen.messages")}
        for point in captured.points("autogen.messages"):
            messages[(point.attributes or {})["autogen.message.outcome"]] += point.value  # type: ignore[union-attr]
    assert messages["ok"] == each * len(TENANTS) * 2
    per_trace = Counter(span.context.trace_id for span in spans)
    assert set(per_trace.values()) <= {2}
    return Counter((span.attributes or {})["tenant.id"] for span in spans if span.name == "process asked")


def test_a_share_for_some_tenants() -> None:
    """None of one tenant's, all of another's, and the third as the standard sampler says."""
    assert kept(sampling=(("acme", 0.0), ("globex", 1.0))) == {"globex": 20, "initech": 20}
    some = kept(200, sampling=(("acme", 0.5),))
    assert 50 < some["acme"] < 150  # one in 10^12 runs is beyond
    assert some["globex"] == 200


@pytest.mark.parametrize("sampler", ["always_off", "traceidratio"])
def test_beside_a_standard_sampler(monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    """`OTEL_TRACES_SAMPLER` decides for all who have no share of their own."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert kept(sampling=(("acme", 1.0),)) == {"acme": 20}
    assert kept() == {}


def test_the_setting() -> None:
    """Ids with signs of their own are percent-encoded."""
    read = Settings.read(environ={"TENANTSCOPE_SAMPLING": " acme=0.1, a%3Db%2Cc=1 ,globex=0"})
    assert read.sampling == (("acme", 0.1), ("a=b,c", 1.0), ("globex", 0.0))


@pytest.mark.parametrize("wrong", ["acme", "acme=2", "acme=-1", "acme=nan", "=1", "acme=1,acme=0", "a=b=c", "%ff=1"])
def test_a_wrong_setting(wrong: str) -> None:
    """One line that names the key and repeats nothing."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(environ={"TENANTSCOPE_SAMPLING": wrong})
    assert str(caught.value).startswith("TENANTSCOPE_SAMPLING: must be")
    assert "acme=" not in str(caught.value)
