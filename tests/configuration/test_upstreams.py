"""Several upstreams: a list for those that are spoken to alike, a file for those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.configuration.upstreams import Upstreams
from sidecar.destinations import load_credentials


def read(**environment: str) -> Upstreams:
    return Settings.from_environment({f"TENANTSCOPE_{key}": value for key, value in environment.items()}).upstreams


def errors(**environment: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        read(**environment)
    return refused.value.lines


def from_file(tmp_path: Path, text: str) -> Upstreams:
    file = tmp_path / "upstreams.yaml"
    file.write_text(text)
    return read(UPSTREAMS_FILE=str(file))


def mistakes(tmp_path: Path, text: str) -> tuple[str, ...]:
    file = tmp_path / "upstreams.yaml"
    file.write_text(text)
    return errors(UPSTREAMS_FILE=str(file))


def test_a_list_names_upstreams_that_are_spoken_to_alike() -> None:
    """In order, by address; the embedded store is not among them."""
    found = read(UPSTREAM="http://127.0.0.1:14317, https://b.example", UPSTREAM_COMPRESSION="gzip")
    assert [route.name for route in found.routes] == ["127.0.0.1:14317", "b.example:4317"]
    assert {route.compression for route in found.routes} == {"gzip"}
    assert not found.embedded_store


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"UPSTREAM": "http://a,"}, "TENANTSCOPE_UPSTREAM: has a comma too many"),
        ({"UPSTREAM": "http://a, http://a:4317"}, "TENANTSCOPE_UPSTREAM: names an upstream twice"),
        ({"UPSTREAM": ",".join(["http://h"] * 17)}, "TENANTSCOPE_UPSTREAM: names more than 16 upstreams"),
        ({"UPSTREAM": "http://a", "UPSTREAM_PROTOCOL": "http/json"},
         "TENANTSCOPE_UPSTREAM_PROTOCOL: must be grpc or http/protobuf"),
        ({"UPSTREAM": "unix:/run/x.sock", "UPSTREAM_PROTOCOL": "http/protobuf"},
         "TENANTSCOPE_UPSTREAM: must begin with http:// or https://: OTLP/HTTP has no Unix sockets"),
        ({"UPSTREAM_PROTOCOL": "grpc"}, "TENANTSCOPE_UPSTREAM_PROTOCOL: has no effect without TENANTSCOPE_UPSTREAM"),
        ({"UPSTREAM": "http://a", "UPSTREAM_COMPRESSION": "zstd"},
         "TENANTSCOPE_UPSTREAM_COMPRESSION: gRPC knows gzip alone; zstd needs the protocol http/protobuf"),
        ({"UPSTREAM": "http://a,http://127.0.0.1:4317"},
         "TENANTSCOPE_UPSTREAM: is the sidecar's own listener; telemetry would go in circles"),
        ({"UPSTREAM": "http://127.0.0.1:4318/x", "UPSTREAM_PROTOCOL": "http/protobuf", "LISTEN_HTTP": "127.0.0.1:4318"},
         "TENANTSCOPE_UPSTREAM: is the sidecar's own listener; telemetry would go in circles"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_with_one_line(given: dict[str, str], line: str) -> None:
    """Which names the setting."""
    assert errors(**given) == (line,)


def test_a_token_is_for_one_upstream_alone(tmp_path: Path) -> None:
    """A file of headers, or a certificate, would be shown to all of a list."""
    file = tmp_path / "headers"
    file.touch()
    (line,) = errors(UPSTREAM="https://a,https://b", UPSTREAM_HEADERS_FILE=str(file))
    assert line.startswith("TENANTSCOPE_UPSTREAM_HEADERS_FILE: would be shown to every upstream")


def test_a_file_gives_each_its_own_options(tmp_path: Path) -> None:
    """Files are relative to it; what is not said is as for a single upstream."""
    (tmp_path / "vendor.headers").touch(0o600)
    found = from_file(
        tmp_path,
        """
        upstreams:
          collector: {url: "http://127.0.0.1:14317"}
          vendor:
            url: https://otlp.example.com/otlp
            protocol: http/protobuf
            compression: zstd
            headers_file: vendor.headers
            when_full: wait
        embedded_store: true
        """,
    )
    collector, vendor = found.routes
    assert (collector.name, collector.protocol, collector.compression, collector.waits) == (
        "collector", "grpc", "none", False,
    )  # fmt: skip
    assert (vendor.upstream.address.target, vendor.upstream.path) == ("otlp.example.com:443", "/otlp")
    assert (vendor.protocol, vendor.compression, vendor.waits) == ("http/protobuf", "zstd", True)
    assert vendor.headers_file == tmp_path / "vendor.headers"
    assert found.embedded_store


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1: must have a key `upstreams`"),
        ("upstreams: {}", "must have a key `upstreams`"),
        ("upstreams: {a: {url: 'http://h'}}\nupstream: 1", "2: unknown key 'upstream'; did you mean upstreams?"),
        (
            "upstreams:\n  a:\n    url: http://h\n    compresion: gzip",
            "4: a: unknown key 'compresion'; did you mean compr",
        ),
        ("upstreams:\n  a: {protocol: grpc}", "a.url: must begin with"),
        ("upstreams:\n  a: {url: 'http://bob:hunter2@h'}", "a.url: must not contain credentials"),
        ("upstreams:\n  a: {url: 'http://h', when_full: perhaps}", "a.when_full: must be lose_oldest or wait"),
        ("upstreams:\n  a: {url: 'http://h', headers_file: missing}", "is not a file"),
        ("upstreams:\n  a: {url: 'http://h', compression: zstd}", "a.compression: gRPC knows gzip alone"),
        ("upstreams:\n  store: {url: 'http://h'}", "is not `store`"),
        ("upstreams:\n  'a/b': {url: 'http://h'}", "an upstream's name"),
        ("upstreams:\n  a: {url: 'http://h'}\n  a: {url: 'http://i'}", "stands twice"),
        ("upstreams:\n  a: &x {url: 'http://h'}\n  b: *x", "anchors"),
        ("upstreams: {a: {url: 'http://h'}}\nembedded_store: 'yes'", "embedded_store: must be true or false"),
        ("upstreams: {a: {url: 'http://127.0.0.1:4317'}}", "is the sidecar's own listener"),
        ("upstreams: {a: {url: 5}}", "a: must have a `url`"),
    ],
)
def test_a_wrong_file_is_refused_by_place(tmp_path: Path, text: str, told: str) -> None:
    """A line with the place and what is wrong; never a URL."""
    (line,) = mistakes(tmp_path, text)
    assert line.startswith("TENANTSCOPE_UPSTREAMS_FILE: ")
    assert told in line
    assert "hunter2" not in line


def test_a_file_takes_the_place_of_the_other_settings(tmp_path: Path) -> None:
    """Two ways at once would leave open which one counts."""
    file = tmp_path / "upstreams.yaml"
    file.write_text("upstreams: {a: {url: 'http://h'}}")
    assert errors(UPSTREAMS_FILE=str(file), UPSTREAM="http://b") == (
        "TENANTSCOPE_UPSTREAMS_FILE: takes the place of TENANTSCOPE_UPSTREAM and its options",
    )


def test_what_is_wrong_in_a_file_of_credentials_is_told_with_its_upstream(tmp_path: Path) -> None:
    """So that one knows which of them."""
    (tmp_path / "vendor.headers").write_text("nothing of the sort")
    (tmp_path / "vendor.headers").chmod(0o600)
    found = from_file(tmp_path, "upstreams: {vendor: {url: 'https://h', headers_file: vendor.headers}}")
    with pytest.raises(ConfigurationError) as refused:
        load_credentials(found.routes)
    assert refused.value.lines == ("TENANTSCOPE_UPSTREAMS_FILE: vendor.headers_file: line 1 is not `name: value`",)


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    """Never another exception, never a line break, never what was given."""
    lines: tuple[str, ...] = ()
    try:
        read(UPSTREAM=text)
    except ConfigurationError as error:
        lines = error.lines
    assert all(line.startswith("TENANTSCOPE_UPSTREAM: ") and "\n" not in line for line in lines)
