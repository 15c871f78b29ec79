"""Who sees what of a sidecar that has a list of clients: one that speaks for some tenants sees those, and no trace of
others."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_peers import PATIENCE, export, sum_request, trace_request
from prometheus_client.parser import text_string_to_metric_families
from sidecars import configured

from sidecar.admin import scope
from sidecar.senders.clients import new_token
from sidecar.service import Sidecar

TOKENS = {name: new_token() for name in ("operator", "acme", "globex", "hidden", "gone")}
CLIENTS = f"""\
clients:
  operator:
    tokens: ["{TOKENS["operator"][1]}"]
    tenants: all
  acme:
    tokens: ["{TOKENS["acme"][1]}"]
    tenants: [acme]
  globex:
    tokens: ["{TOKENS["globex"][1]}"]
    tenants: [globex, bob@example.com]
  hidden:
    tokens: ["{TOKENS["hidden"][1]}"]
    tenants: [unknown, other, "no such tenant"]
"""
SEEN = ("acme", "globex", "initech")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One with spans and metrics of three tenants, and of one whose id the policy masks."""
    with running(tmp_path_factory.mktemp("guarded"), (*SEEN, "bob@example.com", "unknown")) as made:
        yield made


@contextmanager
def running(folder: Path, tenants: Iterable[str], **more: str) -> Iterator[Sidecar]:
    """One that has had three spans and a point of each tenant."""
    (folder / "clients.yaml").write_text(CLIENTS)
    made = Sidecar(configured(folder, CLIENTS_FILE=str(folder / "clients.yaml"), **more))
    made.start()
    try:
        metadata = [("authorization", f"Bearer {TOKENS['operator'][0]}")]
        for tenant in tenants:
            export(made.listen_address.target, trace_request(3, tenant=tenant), metadata=metadata)
            request = sum_request("autogen.messages", 7, tenant=tenant)
            export(made.listen_address.target, request, "metrics", metadata=metadata)
        assert made._delivery.queue.wait_until_empty(PATIENCE)
        yield made
    finally:
        made.stop(PATIENCE)


def ask(sidecar: Sidecar, path: str, *authorization: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    try:
        connection.putrequest("GET", path)
        for each in authorization:
            connection.putheader("Authorization", each)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read(), dict(response.headers)
    finally:
        connection.close()


def see(sidecar: Sidecar, path: str, client: str) -> Any:
    status, body, _ = ask(sidecar, path, f"Bearer {TOKENS[client][0]}")
    assert status == 200
    return json.loads(body)


@pytest.mark.parametrize("path", ["/status", "/spans", "/metrics"])
@pytest.mark.parametrize(
    "shown",
    [
        (), ("",), ("Bearer ",), (TOKENS["acme"][0],), (f"Basic {TOKENS['acme'][0]}",),
        (f"Bearer {TOKENS['acme'][1]}",), (f"Bearer {TOKENS['gone'][0]}",), (f"Bearer {TOKENS['acme'][0]}x",),
        (f"Bearer {TOKENS['operator'][0]}", f"Bearer {TOKENS['operator'][0]}"),
    ],
)  # fmt: skip
def test_a_stranger_is_told_nothing(sidecar: Sidecar, path: str, shown: tuple[str, ...]) -> None:
    """401, the same whatever was wrong; no name of a tenant, nor of a client."""
    status, body, headers = ask(sidecar, path, *shown)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert json.loads(body) == {"error": "a client's token is needed, as `Authorization: Bearer`"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_to_everybody(sidecar: Sidecar, path: str) -> None:
    """A kubelet has no token."""
    assert ask(sidecar, path)[0] == ask(sidecar, path, "Bearer nonsense")[0] == 200


def test_a_client_of_all_tenants_sees_everything(sidecar: Sidecar) -> None:
    """Status, spans, metrics."""
    document = see(sidecar, "/status", "operator")
    assert {*SEEN, "unknown"} < {row["tenant"] for row in document["tenants"]}
    assert document["records"]["traces"]["forwarded"] == 15
    assert len(see(sidecar, "/spans", "operator")["spans"]) == 15
    status, body, _ = ask(sidecar, "/metrics", f"Bearer {TOKENS['operator'][0]}")
    assert status == 200
    assert list(text_string_to_metric_families(body.decode()))


def test_a_client_of_one_tenant_sees_that_one(sidecar: Sidecar) -> None:
    """In no page is there a name of another, nor a figure of the whole."""
    document, spans = see(sidecar, "/status", "acme"), see(sidecar, "/spans", "acme")
    assert [row["tenant"] for row in document["tenants"]] == ["acme"]
    assert document["tenants"][0]["messages"] == 7
    assert [span["tenant"] for span in spans["spans"]] == ["acme"] * 3
    for other in ("globex", "initech", "redacted:email"):
        assert other not in json.dumps([document, spans])
    assert not scope.WITHHELD & document.keys()


def test_metrics_are_about_all(sidecar: Sidecar) -> None:
    """So a client of some tenants gets none."""
    status, body, _ = ask(sidecar, "/metrics", f"Bearer {TOKENS['acme'][0]}")
    assert status == 403
    assert b"tenantscope_" not in body


def test_a_tenant_is_seen_as_the_policy_shows_it(sidecar: Sidecar) -> None:
    """Its client finds it under the mask; the raw id is nowhere."""
    document = see(sidecar, "/status", "globex")
    masked = [row["tenant"] for row in document["tenants"] if row["tenant"] != "globex"]
    assert len(masked) == 1
    assert masked[0].startswith("[redacted:email:")
    assert {span["tenant"] for span in see(sidecar, "/spans", "globex")["spans"]} == {"globex", *masked}
    assert "bob" not in json.dumps([document, see(sidecar, "/spans", "operator")])


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ("{action: mask}", "[redacted:policy]"),
        ("{action: truncate, type: string, shape: tenant, max_length: 255, length: 4}", "acme"),
    ],
)
def test_what_several_tenants_are_shown_as_is_no_clients_own(tmp_path: Path, rule: str, shown: str) -> None:
    """A policy that gives all tenants one mask, or the first letters of their ids, has told nobody which are whose."""
    source = Path(str(files("sidecar.redaction") / "policies" / "default.yaml")).read_text()
    (tmp_path / "policy.yaml").write_text(re.sub(r"tenant\.id: .*", f"tenant.id: {rule}", source, count=1))
    policy = {"POLICY": str(tmp_path / "policy.yaml")}
    with running(tmp_path, ("acme", "acme-two"), **policy) as sidecar:
        assert [span["tenant"] for span in see(sidecar, "/spans", "operator")["spans"]] == [shown] * 6
        assert see(sidecar, "/spans", "acme")["spans"] == []
        assert see(sidecar, "/status", "acme")["tenants"] == []


def test_nobodys_records_are_not_a_clients_own(sidecar: Sidecar) -> None:
    """A list that names `unknown` or `other` opens nothing: that is where records of all clients end up."""
    assert see(sidecar, "/status", "hidden")["tenants"] == []
    assert see(sidecar, "/spans", "hidden")["spans"] == []


def test_what_is_anothers_is_as_absent_as_what_never_was(sidecar: Sidecar) -> None:
    """The trace of another tenant and one that there never was: one answer, byte for byte."""
    theirs = next(s for s in see(sidecar, "/spans", "operator")["spans"] if s["tenant"] == "initech")
    bearer = f"Bearer {TOKENS['acme'][0]}"
    mine = see(sidecar, f"/spans?trace_id={theirs['trace_id']}", "acme")["spans"]
    assert all(span["tenant"] == "acme" for span in mine)
    assert ask(sidecar, f"/spans?trace_id={'e' * 32}", bearer)[1] == b'{"kept": true, "spans": []}\n'
    globex = f"Bearer {TOKENS['hidden'][0]}"
    answers = {ask(sidecar, f"/spans?trace_id={trace}", globex)[1] for trace in (theirs["trace_id"], "e" * 32)}
    assert len(answers) == 1


def test_every_part_of_the_status_has_a_decision(sidecar: Sidecar) -> None:
    """What is added to `/status` is seen by nobody but operators, and fails this test until somebody decides."""
    everything = sidecar.answers.status()
    assert everything.keys() == scope.status(everything, frozenset()).keys() | (scope.WITHHELD & everything.keys())


names = st.sampled_from(["acme", "globex", "initech", "other", "unknown"])
figure = st.floats(0, 100)
share = st.fixed_dictionaries({"tenant": names, "loop_seconds": figure})
pair = st.fixed_dictionaries({"culprit": names, "victim": names, "seconds": figure})
loop = st.fixed_dictionaries(
    {
        "service": st.just("s"), "instance": st.just("i"), "host": st.just("h"), "pid": st.just(1),
        "loop_id": st.integers(0, 5), "mode": st.just("cell"), "cannot": st.just([]), "heartbeat_age_seconds": figure,
        "tenants": st.lists(share, max_size=4), "pairs": st.lists(pair, max_size=6),
        "running": st.none() | st.fixed_dictionaries({"tenant": names, "seconds": figure}),
        "new": names,
    }
)  # fmt: skip
stall = st.fixed_dictionaries(
    {
        "id": st.integers(0, 9), "tenant": names, "victims": st.lists(names, max_size=4), "stack": st.just(["f (a:1)"]),
        "new": names,
    }
)  # fmt: skip
alert = st.builds(
    lambda tenant, victim: {
        "name": "EventLoopStalled", "status": "firing", "labels": {"alertname": "x", "tenant_id": tenant},
        "annotations": {"summary": f"{tenant} made {victim} wait", "victims": victim, "duration_ms": "7"},
        "starts_at": "now", "ends_at": None,
    },
    names, names,
)  # fmt: skip


@given(st.lists(loop, max_size=3), st.lists(stall, max_size=3), st.lists(alert, max_size=3))
def test_no_name_of_another_tenant_stands_anywhere(loops: list[Any], stalls: list[Any], alerts: list[Any]) -> None:
    """Not beside its own, as culprit, as victim, as who runs now, in a sentence; nor in a field that is new."""
    document = {
        "version": "1", "pid": 1, "loops": loops, "stalls": stalls, "alerts": alerts,
        "tenants": [{"tenant": "globex"}], "findings": [{"tenant": "initech"}], "store_fault": "",
        "new": "globex",
    }  # fmt: skip
    seen = scope.status(document, frozenset({"acme"}))
    text = json.dumps(seen)
    assert "globex" not in text
    assert "initech" not in text
    assert "unknown" not in text
    own = sum(share["loop_seconds"] for each in loops for share in each["tenants"] if share["tenant"] == "acme")
    assert sum(share["loop_seconds"] for each in seen["loops"] for share in each["tenants"]) == own


def test_a_victim_of_another_client_is_not_named_on_a_span() -> None:
    """The span stays, without who waited."""
    span = {"tenant": "acme", "name": "stall", "attributes": {"tenantscope.victim": "globex", "a": 1}}
    assert scope.spans([span], frozenset({"acme"})) == [{**span, "attributes": {"a": 1}}]
    assert scope.spans([span], frozenset({"acme", "globex"})) == [span]
    assert scope.spans([span], frozenset({"globex"})) == []
