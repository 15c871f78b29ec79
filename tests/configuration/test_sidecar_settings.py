"""The sidecar's settings: wrong ones are told all at once, by name, without what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.configuration.table import SETTINGS
from sidecar.configuration.upstreams import Upstreams
from sidecar.network.address import Address, Upstream


def errors(**environment: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_environment({f"TENANTSCOPE_{key}": value for key, value in environment.items()})
    return refused.value.lines


def read(**environment: str) -> Settings:
    return Settings.from_environment({f"TENANTSCOPE_{key}": value for key, value in environment.items()})


def test_nothing_has_to_be_set() -> None:
    """The defaults are those of the table."""
    settings = Settings.from_environment({"XDG_STATE_HOME": "/var/lib/me"})
    assert settings.listen == Address("127.0.0.1", 4317)
    assert settings.admin == Address("127.0.0.1", 8889)
    assert (settings.upstreams, settings.policy, settings.stall_ms, settings.runbook_url) == (
        Upstreams(),
        "default",
        100,
        "",
    )
    assert settings.state_dir == Path("/var/lib/me/tenantscope")


def test_a_relative_state_home_is_ignored() -> None:
    """As the XDG specification has it."""
    settings = Settings.from_environment({"XDG_STATE_HOME": "here"})
    assert settings.state_dir == Path.home() / ".local/state/tenantscope"


def test_an_empty_value_counts_as_unset() -> None:
    """`TENANTSCOPE_UPSTREAM= python -m sidecar` means: without an upstream."""
    assert read(UPSTREAM="", LISTEN=" ").upstreams == Upstreams()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("localhost:14317", "localhost:14317"),
        ("[::1]:4317", "[::1]:4317"),
        ("127.9.9.9:1", "127.9.9.9:1"),
        ("unix:/run/x/o.sock", "unix:/run/x/o.sock"),
        ("unix:///run/x/o.sock", "unix:/run/x/o.sock"),
    ],
)
def test_addresses_that_are_ours_alone_are_accepted(text: str, target: str) -> None:
    """Loopback in every form, and Unix sockets."""
    assert read(LISTEN=text).listen.target == target


@pytest.mark.parametrize("key", ["LISTEN", "ADMIN"])
@pytest.mark.parametrize("text", ["0.0.0.0:4317", "[::]:4317", "10.0.0.1:4317", "example.com:4317", "169.254.1.1:1"])
def test_a_listener_that_others_could_reach_is_refused(key: str, text: str) -> None:
    """One line that says why."""
    (line,) = errors(**{key: text})
    assert line.startswith(f"TENANTSCOPE_{key}: must be a loopback address")


@pytest.mark.parametrize(
    "text",
    [
        "4317", "localhost", ":4317", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "http://127.0.0.1:4317",
        "127.0.0.1:4317/x", "unix:", "unix:relative.sock", "unix:/dir/", "unix:/" + "x" * 110, "unix:/a\nb",
        "[::1:4317", "127.0.0.1 :1", "\x1b[31m:1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """Whatever is wrong with it, the line begins with the key."""
    (line,) = errors(LISTEN=text)
    assert line.startswith("TENANTSCOPE_LISTEN: ")


@pytest.mark.parametrize("key", ["LISTEN", "LISTEN_HTTP", "ADMIN"])
def test_what_is_for_this_machine_may_be_a_unix_socket(key: str) -> None:
    """With no clients and no TLS: the folder keeps others out."""
    found = read(**{key: "unix:/run/x/any.sock"})
    assert getattr(found, key.lower()) == Address(path=Path("/run/x/any.sock"))


@pytest.mark.parametrize("place", ["127.0.0.1:4444", "[::1]:4444", "unix:/run/x/any.sock"])
def test_two_listeners_have_not_one_address(place: str) -> None:
    """Known before anything starts; a port that the system picks is another one each time."""
    (line,) = errors(LISTEN_HTTP=place, ADMIN=place)
    assert line == "TENANTSCOPE_ADMIN: is where TENANTSCOPE_LISTEN_HTTP is already"
    (line,) = errors(LISTEN="127.0.0.1:4444", METRICS="127.0.0.1:4444")
    assert line.startswith("TENANTSCOPE_METRICS: ")
    assert read(LISTEN="127.0.0.1:0", LISTEN_HTTP="127.0.0.1:0").listen_http == Address("127.0.0.1", 0)


def test_metrics_for_other_machines_are_served_when_asked_for() -> None:
    """Nowhere by default; on any address, but no Unix socket."""
    assert read().metrics is None
    assert read(METRICS="0.0.0.0:8890").metrics == Address("0.0.0.0", 8890)
    (line,) = errors(METRICS="unix:/run/x/metrics.sock")
    assert line.startswith("TENANTSCOPE_METRICS: ")


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("http://collector:4317", Upstream(Address("collector", 4317))),
        ("http://collector", Upstream(Address("collector", 4317))),
        ("https://otlp.example.com:443/", Upstream(Address("otlp.example.com", 443), secure=True)),
        ("unix:///run/c.sock", Upstream(Address(path=Path("/run/c.sock")))),
    ],
)
def test_upstreams_come_in_three_forms(text: str, upstream: Upstream) -> None:
    """Plain, TLS, Unix socket."""
    (route,) = read(UPSTREAM=text).upstreams.routes
    assert route.upstream == upstream


@pytest.mark.parametrize(
    "text",
    [
        "https://bob:hunter2@collector:4317", "https://hunter2@collector:4317", "http://collector:4317/?k=hunter2",
        "http://collector/hunter2", "ftp://hunter2:4317", "file:///hunter2", "hunter2:4317", "http://collector:hunter2",
        "http://[hunter2", "http://a b:1#hunter2", "http://:4317",
    ],
)  # fmt: skip
def test_a_wrong_upstream_is_refused_without_being_repeated(text: str) -> None:
    """It may hold a secret, also when it is wrong in another way."""
    (line,) = errors(UPSTREAM=text)
    assert line.startswith("TENANTSCOPE_UPSTREAM: ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("127.0.0.1:4317", "http://localhost:4317"),
        ("localhost:4317", "http://127.0.0.1"),
        ("[::1]:4317", "https://localhost:4317"),
        ("unix:/run/a.sock", "unix:///run/a.sock"),
    ],
)
def test_an_upstream_that_is_the_sidecar_itself_is_refused(listen: str, upstream: str) -> None:
    """Telemetry would go in circles."""
    (line,) = errors(LISTEN=listen, UPSTREAM=upstream)
    assert line.startswith("TENANTSCOPE_UPSTREAM: is the sidecar's own")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "100ms", "1e3", "999999999999", "٣", "0x10"])
def test_the_threshold_is_a_whole_number_of_milliseconds(text: str) -> None:
    """No units, no fractions, no other digits."""
    (line,) = errors(STALL_MS=text)
    assert line.startswith("TENANTSCOPE_STALL_MS: must be a whole number")


@pytest.mark.parametrize("text", ["0", "-1", "16777215", "256MiB", "1e9", "9" * 16, "٣٣٣٣٣٣٣٣٣"])
def test_the_bound_of_the_queue_is_a_number_of_bytes(text: str) -> None:
    """Not less than what lets the largest request into an empty queue."""
    (line,) = errors(QUEUE_BYTES=text)
    assert line.startswith("TENANTSCOPE_QUEUE_BYTES: must be a whole number of bytes, 16777216 (16 MiB) or more")
    assert read(QUEUE_BYTES="16777216").queue_bytes == 16_777_216
    assert read().queue_bytes == 256 * 1024 * 1024


def test_a_misspelt_key_is_an_error_with_a_suggestion() -> None:
    """A setting that silently does nothing is worse than an error."""
    assert errors(UPSTRAEM="http://x") == (
        "'TENANTSCOPE_UPSTRAEM': unknown setting; did you mean TENANTSCOPE_UPSTREAM?",
    )
    assert errors(QQQ="1") == ("'TENANTSCOPE_QQQ': unknown setting",)


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start five times to find five mistakes."""
    lines = errors(
        LISTEN="0.0.0.0:1",
        ADMIN="x",
        UPSTREAM="y",
        POLICY=str(tmp_path / "none"),
        STALL_MS="z",
        RUNBOOK_URL="w",
    )
    assert [line.split(":")[0] for line in lines] == [
        "TENANTSCOPE_LISTEN", "TENANTSCOPE_ADMIN", "TENANTSCOPE_UPSTREAM", "TENANTSCOPE_POLICY",
        "TENANTSCOPE_STALL_MS", "TENANTSCOPE_RUNBOOK_URL",
    ]  # fmt: skip
    assert all("\n" not in line for line in lines)


def test_a_policy_is_a_shipped_one_or_a_file(tmp_path: Path) -> None:
    """A name stands for itself; a folder is no file, and a misspelt name is told the names that there are."""
    assert read(POLICY="strict").policy == "strict"
    assert errors(POLICY=str(tmp_path))[0].startswith("TENANTSCOPE_POLICY: ")
    assert errors(POLICY="stricct")[0].endswith("is not a file, nor is it one of default, strict, genai")
    file = tmp_path / "policy.yaml"
    file.touch()
    assert read(POLICY=str(file)).policy == file


@pytest.mark.parametrize(
    "text", ["https://bob:x@wiki", "wiki/runbooks", "javascript:alert(1)", "http://a b", "http://"]
)
def test_the_runbooks_are_at_an_http_url(text: str) -> None:
    """It ends up in alerts, where people click."""
    assert errors(RUNBOOK_URL=text)[0].startswith("TENANTSCOPE_RUNBOOK_URL: ")
    assert read(RUNBOOK_URL="https://wiki/runbooks/").runbook_url == "https://wiki/runbooks"


def test_the_table_says_what_every_setting_is() -> None:
    """Documents are made from it."""
    fields = set(Settings.__dataclass_fields__)
    given = {setting.field for setting in SETTINGS}
    assert {field for field in given if not field.startswith("upstream")} == fields - {"upstreams"}
    assert all(setting.description and setting.key == f"TENANTSCOPE_{setting.field.upper()}" for setting in SETTINGS)


@given(st.sampled_from([setting.key for setting in SETTINGS]), st.text(max_size=40))
def test_any_text_is_accepted_or_refused_by_name(key: str, text: str) -> None:
    """Never another exception, never a line without the key, never a line break."""
    lines: tuple[str, ...] = ()
    try:
        Settings.from_environment({key: text})
    except ConfigurationError as error:
        lines = error.lines
    assert all(line.startswith(f"{key}: ") for line in lines)


@pytest.mark.parametrize(
    ("upstream", "files", "wrong"),
    [
        ("", ["HEADERS", "CA"], "has no effect without TENANTSCOPE_UPSTREAM"),
        ("http://127.0.0.1:14317", ["CA", "CERTIFICATE", "KEY"], "has no effect without TLS"),
        ("http://collector.example", ["HEADERS"], "would cross the network in the clear"),
        ("https://collector.example", ["CERTIFICATE"], "one is of no use without the other"),
        ("https://collector.example", ["KEY"], "one is of no use without the other"),
    ],
)
def test_credentials_that_do_not_fit_the_upstream_are_refused(
    tmp_path: Path, upstream: str, files: list[str], wrong: str
) -> None:
    """A setting that does nothing, or that would show a token to the network, is an error at the start."""
    file = tmp_path / "file"
    file.touch()
    lines = errors(UPSTREAM=upstream, **{f"UPSTREAM_{name}_FILE": str(file) for name in files})
    assert lines
    assert all(wrong in line for line in lines)


@pytest.mark.parametrize(
    ("upstream", "given", "compressed"),
    [
        ("https://collector.example", "", "gzip"),
        ("http://127.0.0.1:14317", "", "none"),
        ("unix:/run/collector.sock", "", "none"),
        ("https://collector.example", "none", "none"),
        ("http://127.0.0.1:14317", "gzip", "gzip"),
    ],
)
def test_what_leaves_the_machine_is_compressed(upstream: str, given: str, compressed: str) -> None:
    """CPU is cheaper than a network, and dearer than the loopback; whoever knows better says so."""
    (route,) = read(UPSTREAM=upstream, UPSTREAM_COMPRESSION=given).upstreams.routes
    assert route.compression == compressed


def test_an_unknown_compression_is_refused() -> None:
    """Three words."""
    assert errors(UPSTREAM="http://h", UPSTREAM_COMPRESSION="snappy") == (
        "TENANTSCOPE_UPSTREAM_COMPRESSION: must be gzip, zstd or none",
    )


@pytest.mark.parametrize("text", ["-1", "33", "1.5", "auto", "٣", "100"])
def test_workers_are_a_number_of_processes(text: str) -> None:
    """Within reason; none by default."""
    (line,) = errors(WORKERS=text)
    assert line.startswith("TENANTSCOPE_WORKERS: must be a whole number of processes, 0 to 32")
    assert read(WORKERS="32").workers == 32
    assert read().workers == 0
