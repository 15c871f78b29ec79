"""What the redaction tests are made from: OTLP's descriptors. Paths to every leaf, random messages, planted secrets."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.conventions import Signal

REQUESTS: Final[dict[Signal, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
RECORDS: Final = {
    "Span", "LogRecord", "NumberDataPoint", "HistogramDataPoint", "ExponentialHistogramDataPoint", "SummaryDataPoint",
}  # fmt: skip
Path = tuple[FieldDescriptor, ...]
_F = FieldDescriptor


# Leaves -----------------------------------------------------------------------------------------------------
def leaves(signal: Signal, kinds: tuple[int, ...] = (_F.TYPE_STRING, _F.TYPE_BYTES)) -> list[Path]:
    """The way from the request to every field of these types; recursive messages are entered once."""
    return list(_leaves(REQUESTS[signal].DESCRIPTOR, (), kinds))


def _leaves(message: Descriptor, path: Path, kinds: tuple[int, ...]) -> Iterator[Path]:
    for field in message.fields:
        if field.message_type is None:
            if field.type in kinds:
                yield (*path, field)
        elif [step.message_type for step in path].count(field.message_type) < 2:
            yield from _leaves(field.message_type, (*path, field), kinds)


def text_of(path: Path) -> str:
    """`resource_spans.scope_spans.spans.name`"""
    return ".".join(field.name for field in path)


def plant(signal: Signal, path: Path, value: str | bytes, key: str = "tenant.id") -> Message:
    """A request with `value` at the end of `path`; attributes on the way have the key `key`."""
    request = REQUESTS[signal]()
    _plant(request, path, value, key)
    return request


def _plant(message: Message, path: Path, value: str | bytes, key: str) -> None:
    field, *rest = path
    if field.message_type is not None:
        child = getattr(message, field.name)
        inner = child.add() if field.label == _F.LABEL_REPEATED else child
        inner.SetInParent()
        if field.message_type.name == "KeyValue":
            inner.key = key
            inner.value.string_value = "acme"
        if field.message_type.name == "Metric":
            inner.name = "autogen.messages"
            inner.sum.data_points.add(as_int=1)
        _plant(inner, tuple(rest), value, key)
        return
    raw = value.encode() if isinstance(value, str) else value
    content = raw if field.type == _F.TYPE_BYTES else raw.decode("utf-8", "replace")
    if field.label == _F.LABEL_REPEATED:
        getattr(message, field.name).append(content)
    else:
        setattr(message, field.name, content)


def records(message: Message) -> int:
    """How many spans, data points or log records there are in a message."""
    if message.DESCRIPTOR.name in RECORDS:
        return 1
    found = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += sum(map(records, value if field.label == _F.LABEL_REPEATED else (value,)))
    return found


def unknown_fields(message: Message) -> int:
    """How many fields anywhere in a message are none that OTLP has."""
    found = len(UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += sum(map(unknown_fields, value if field.label == _F.LABEL_REPEATED else (value,)))
    return found


# Secrets ----------------------------------------------------------------------------------------------------
SECRETS: Final = {
    "email": "bob.builder@example.com",
    "card": "4111 1111 1111 1111",
    "bare card": "5500005555555559",
    "ssn": "078-05-1120",
    "iban": "DE89 3704 0044 0532 0130 00",
    "phone": "+49 30 901820-14",
    "us phone": "(415) 555-0132",
    "ip": "203.0.113.195",
    "ipv6": "2001:db8:85a3::8a2e:370:7334",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "bearer": "Bearer mF_9.B5f-4.1JqM0xq",
    "basic": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "openai": "sk-proj-Ab3dEf6hIj9kLm2nOp5q",
    "google": "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
    "slack": "xoxb-17653672481-19874698323",
    "url": "postgres://admin:hunter2@db.internal/crm",
    "password": "password=correct-horse",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq",
    "token": "q8Zr2LxV0aT7mKp3WdY9sNc4",
}
#: Nothing in them looks like a secret: what keeps them in is that they don't have the shape of a name.
CONTENT: Final = {
    "prose": "please refund my last order, Bob",
    "json": '{"name": "transfer", "arguments": {"amount": 12}}',
    "trace": 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no such user',
}

ENCODINGS: Final[dict[str, Callable[[str], str]]] = {
    "plain": lambda text: text,
    "at the end": lambda text: f"x {text}",
    "at the start": lambda text: f"{text} x",
    # Only the label of a secret may change its case: another case of a key is another key.
    "upper case": lambda text: re.sub(r"^\w+(?=[ =@.])", lambda label: label[0].upper(), text),
    "url": quote,
    "url, all of it": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "html": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "html, marks": lambda text: html.escape(text).replace("@", "&commat;").replace(":", "&colon;"),
    "escaped": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 behind a name": lambda text: "agent_" + base64.b64encode(text.encode()).decode(),
    "base64 twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "url in base64": lambda text: base64.b64encode(quote(text).encode()).decode(),
    "zero width": lambda text: "\u200b".join(text),
    "combining": lambda text: "".join(character + "\u0301" for character in text),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}

#: Those that nobody uses by accident, and some use by habit.
RARE_ENCODINGS: Final[dict[str, Callable[[str], str]]] = {
    "octal": lambda text: "".join(f"\\{ord(character):03o}" for character in text),
    "escaped bytes": lambda text: "".join(f"\\x{ord(character):02x}" for character in text),
    "url, of javascript": lambda text: "".join(f"%u{ord(character):04X}" for character in text),
    "quoted-printable": lambda text: "".join(f"={ord(character):02X}" for character in text),
    "json in json": lambda text: json.dumps(json.dumps({"to": text})),
    "html, hexadecimal": lambda text: "".join(f"&#x{ord(character):x};" for character in text),
    "url three times": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "hex with bars": lambda text: "_".join(f"{byte:02x}" for byte in text.encode()),
    "hex with slashes": lambda text: "/".join(f"{byte:02X}" for byte in text.encode()),
    "hex bytes": lambda text: ", ".join(f"0x{byte:02x}" for byte in text.encode()),
    "hex bytes in a row": lambda text: "".join(f"0x{byte:02x}" for byte in text.encode()),
    "decimal bytes": lambda text: ",".join(str(byte) for byte in text.encode()),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "base32, small": lambda text: base64.b32encode(text.encode()).decode().lower().rstrip("="),
    "hex in base64": lambda text: base64.b64encode(text.encode().hex().encode()).decode(),
    "base64 in hex": lambda text: base64.b64encode(text.encode()).hex(),
    "html in base64": lambda text: base64.b64encode(ENCODINGS["html"](text).encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode() * 4).decode(),
    "utf-16 in base64": lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
    "utf-16 in hex": lambda text: text.encode("utf-16-be").hex(),
    "compressed": lambda text: base64.b64encode(zlib.compress(text.encode())).decode(),
    "gzip": lambda text: base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode(),
    "soft hyphens": lambda text: "\u00ad".join(text),
    "blank letters": lambda text: "\u3164".join(text),
    "braille blanks": lambda text: "\u2800".join(text),
    "variation selectors": lambda text: "\ufe0f".join(text),
    "dingbat digits": lambda text: text.translate(dict(zip(map(ord, "0123456789"), "⓿❶❷❸❹❺❻❼❽❾", strict=True))),
    "circled digits": lambda text: text.translate(dict(zip(map(ord, "0123456789"), "⓪①②③④⑤⑥⑦⑧⑨", strict=True))),
}


def traces_of(secret: str, output: bytes) -> list[str]:
    """The encodings in which a secret is found in an output."""
    return [name for name, form in _forms(secret).items() if form in output]


@functools.cache
def _forms(secret: str) -> dict[str, bytes]:
    forms = {name: encode(secret).encode() for name, encode in ENCODINGS.items()}
    forms["utf-16"] = secret.encode("utf-16-le")
    forms["reversed"] = secret[::-1].encode()
    # Neither end of a base64 text is sure to be the same in another alignment, its middle is.
    for shift in (1, 2):
        shifted = base64.b64encode(b" " * shift + secret.encode())[4:]
        forms[f"base64, shifted by {shift}"] = shifted[: len(shifted) // 4 * 4 - 4]
    return forms


# Random messages --------------------------------------------------------------------------------------------
class Composer:
    """Fills messages at random, as the descriptors say: with what the policy allows, and with what it does not."""

    def __init__(self, seed: int, keys: list[str]) -> None:
        self._chance = random.Random(seed)
        self._keys = keys

    def request(self, signal: Signal) -> Message:
        request = REQUESTS[signal]()
        self.fill(request, depth=0)
        return request

    def fill(self, message: Message, depth: int) -> None:
        chance = self._chance
        name = message.DESCRIPTOR.name
        if name == "KeyValue" and chance.random() < 0.5:
            self._likely_attribute(message)
            return
        for field in self._chosen(message.DESCRIPTOR):
            many = field.label == _F.LABEL_REPEATED
            if field.message_type is not None:
                # The first levels always, so that there are records; what nests gets rarer with depth.
                if depth < 12 and (depth < 3 or chance.random() < (0.9 if depth < 7 else 0.4)):
                    child = getattr(message, field.name)
                    most = 4 if field.name == "attributes" else 2
                    for _ in range(chance.randint(depth < 3, most) if many else 1):
                        inner = child.add() if many else child
                        inner.SetInParent()
                        self.fill(inner, depth + 1)
            elif many:
                getattr(message, field.name).extend(self._scalar(field, name) for _ in range(chance.randint(0, 3)))
            elif chance.random() < (0.05 if field.name.endswith("strindex") else 0.8):
                setattr(message, field.name, self._scalar(field, name))

    def _likely_attribute(self, message: Message) -> None:
        """An attribute that is on a list, with a value of the right type and any text."""
        message.key = self._chance.choice(["tenant.id", "gen_ai.tool.name", "gen_ai.conversation.id", *LISTED])
        if message.key == "gen_ai.response.finish_reasons":
            for _ in range(self._chance.randint(0, 3)):
                message.value.array_value.values.add(string_value=self._chance.choice(TEXTS))
        else:
            message.value.string_value = self._chance.choice(TEXTS)

    def _chosen(self, message: Descriptor) -> list[FieldDescriptor]:
        """The fields of a message, but of every oneof a single one: mostly the first, for attributes are texts."""
        chance = self._chance
        skipped = set()
        for group in message.oneofs:
            members = [field.name for field in group.fields]
            skipped |= set(members) - {members[0] if chance.random() < 0.4 else chance.choice(members)}
        return [field for field in message.fields if field.name not in skipped]

    def _scalar(self, field: FieldDescriptor, owner: str) -> object:
        chance = self._chance
        if field.type == _F.TYPE_BYTES:
            return chance.randbytes(_length(field.name, chance))
        if field.type == _F.TYPE_STRING:
            if owner == "KeyValue":
                return chance.choice(self._keys) if chance.random() < 0.8 else chance.choice(TEXTS)
            return chance.choice(TEXTS)
        if field.type == _F.TYPE_BOOL:
            return chance.random() < 0.5
        if field.type == _F.TYPE_ENUM:
            return chance.choice([value.number for value in field.enum_type.values] + [99])
        if field.type == _F.TYPE_DOUBLE:
            return chance.choice([0.0, 0.25, 1e7, 1e7 + 1, -1.0, float("inf"), 4111111111111111.0])
        if field.type in (_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64):
            return chance.choice([0, 1, 5000, 10_000_000, 10_000_001, 78_051_120, -1, -(2**31)])
        return chance.choice([0, 1, 127, 128, 2**31])


def _length(name: str, chance: random.Random) -> int:
    right = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}.get(name)
    return chance.randint(0, 24) if right is None or chance.random() < 0.1 else chance.choice([right, right, 0])


LISTED: Final = ("gen_ai.response.finish_reasons", "exception.type", "service.name", "host.name", "error.type")
TEXTS: Final = (
    "", "acme", "stop", "tenant-00042", "gpt-4o-2024-08-06", "send", "ok", "chat", "input", "process planner",
    "planner", "execute_tool web_search", "autogen.messages", "s", "{message}", "INFO", "WARN2", "1.45.2", "exception",
    "https://opentelemetry.io/schemas/1.37.0", "https://evil.example/schemas/1.37.0",
    "0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11",
    "redacted", "[redacted:email]", "process bob@example.com", "naïve café", "Кириллица", "a b", "x" * 129, "y" * 2000,
    "bob@example.com", "4111111111111111", "line\nbreak", "nul\x00", *SECRETS.values(), *CONTENT.values(),
)  # fmt: skip
