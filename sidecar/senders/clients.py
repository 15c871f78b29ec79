"""Clients: who may send to this sidecar, and for which tenants.

A client shows a bearer token (`authorization: Bearer ...`) or a certificate that its TLS handshake has proved. The
file holds no secret: of a token it has the SHA-256, which is enough to know the token and useless to anybody else, for
tokens are random and long. Several tokens of one client are an overlap while one replaces the other. The file is read
again when it changes.

    clients:
      billing-agents:
        tokens: ["sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
        tenants: all
      partner:
        certificates: ["spiffe://example.org/partner"]
        tenants: [globex, initech]
        records: 1000                # a second: spans, data points, log records; more is put off
        bytes: 2000000               # a second
        burst: 30                    # seconds' worth that may come at once

What it refuses: a caller that shows nothing, or something that is not in the file; one whose token is unknown even if
its certificate is known; a file in which one credential belongs to two clients.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from sidecar.configuration.renewal import Renewed
from sidecar.configuration.settings import ConfigurationError
from sidecar.configuration.strict_yaml import Document, Place, YamlError, parse, read_file
from sidecar.wire.limits import QUOTA_KEYS, Quota, read_quota

KEY: Final = "TENANTSCOPE_CLIENTS_FILE"
#: What telemetry says of a tenant when there is none, or too many: it speaks for nobody.
NOBODY: Final = frozenset({"unknown", "other", ""})
_TOKEN_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_BEARER: Final = re.compile(r"bearer +(\S{1,4096})", re.IGNORECASE)
_ALL: Final = "all"
_KEYS: Final = ("tokens", "certificates", "tenants", *QUOTA_KEYS)


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who may send.

    Attributes:
        name: from the file; fit for logs and metrics.
        tenants: for whom it may speak; None means for all.
        quota: what it may send; None means as much as it likes.
    """

    name: str
    tenants: frozenset[str] | None = None
    quota: Quota | None = None

    def speaks_for(self, tenant: str) -> bool:
        """Whether telemetry of this tenant is believed when it comes from this client."""
        return self.tenants is None or tenant in self.tenants or tenant in NOBODY

    @property
    def nameable(self) -> frozenset[str] | None:
        """The ids that telemetry from this client may name; None means all."""
        return None if self.tenants is None else _nameable(self.tenants)


@functools.lru_cache(maxsize=1024)  # as many as there are clients, and a few from before the file changed
def _nameable(tenants: frozenset[str]) -> frozenset[str]:
    return tenants | NOBODY


#: Whoever reaches the sidecar's address, when no file says who may.
ANYBODY: Final = Client("anybody")
_STRANGER: Final = Client("", frozenset())


class Unknown(Exception):  # noqa: N818  # a verdict, not an error
    """The caller is no client. Carries no text on purpose: it would help to guess."""


@dataclass(frozen=True, slots=True)
class _Book:
    by_token: Mapping[bytes, Client]
    by_certificate: Mapping[str, Client]


class Clients:
    """The clients of the file; without a file, everybody.

    Raises:
        ConfigurationError: the file cannot be used; a line for each mistake, with its place.
    """

    def __init__(self, path: Path | None) -> None:
        self._book = None if path is None else Renewed("clients", [path], lambda: _read(path))

    @property
    def names(self) -> list[str] | None:
        """The clients by name; None without a file."""
        if self._book is None:
            return None
        book = self._book.value
        return sorted({client.name for client in (*book.by_token.values(), *book.by_certificate.values())})

    def renew(self) -> None:
        """Read the file again, if it has changed; what cannot be used changes nothing."""
        if self._book is not None:
            self._book.renew()

    def identify(self, authorizations: Sequence[str], certificate_names: Sequence[str] = ()) -> Client:
        """The client that a caller is. Costs a look at the file's date.

        Args:
            authorizations: every `authorization` that the call carries.
            certificate_names: the names in the certificate that its handshake has proved.

        Raises:
            Unknown: it is nobody who may send.
        """
        if self._book is None:
            return ANYBODY
        self._book.renew()
        book = self._book.value
        if authorizations:
            # A dictionary of digests: how long it takes to find none says nothing about a token.
            bearer = _BEARER.fullmatch(authorizations[0]) if len(authorizations) == 1 else None
            client = None if bearer is None else book.by_token.get(_digest(bearer[1]))
        else:
            known = {book.by_certificate.get(name) for name in certificate_names} - {None}
            client = known.pop() if len(known) == 1 else None
        if client is None:
            raise Unknown
        return client


class Caller:
    """Somebody who stays connected: who it is, by what it showed when it came.

    Attributes:
        client: as of the last look; one that speaks for nobody when it is no client any more.

    Raises:
        Unknown: it is no client.
    """

    def __init__(self, clients: Clients, authorizations: Sequence[str], certificate_names: Sequence[str]) -> None:
        self._clients = clients
        self._shown = authorizations, certificate_names
        self.client = clients.identify(*self._shown)

    def look(self) -> None:
        """See who it is by now. Raises Unknown."""
        try:
            self.client = self._clients.identify(*self._shown)
        except Unknown:
            self.client = _STRANGER
            raise


def shown_by(context: grpc.ServicerContext) -> tuple[list[str], list[str]]:
    """What a gRPC call shows of its caller, without its body: authorizations, and names in the certificate."""
    shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    names = context.auth_context().get("x509_subject_alternative_name", ())
    return (
        [value if isinstance(value, str) else "" for value in shown],
        [name.decode("utf-8", "replace") for name in names],
    )


def new_token() -> tuple[str, str]:
    """A new token, and what the file has of it."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, f"sha256:{_digest(token).hex()}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _read(path: Path) -> _Book:
    try:
        document = parse(read_file(path))
    except YamlError as error:
        where = "" if error.line is None else f":{error.line}"
        raise ConfigurationError(f"{KEY}: {path.name}{where}: {error}") from None
    reading = _Reading(document)
    reading.clients()
    if reading.mistakes:
        raise ConfigurationError(*(f"{KEY}: {path.name}:{line}: {what}" for line, what in reading.mistakes))
    return _Book(reading.by_token, reading.by_certificate)


class _Reading:
    """One reading of the file; `mistakes` fills up as it goes on."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.mistakes: list[tuple[int, str]] = []
        self.by_token: dict[bytes, Client] = {}
        self.by_certificate: dict[str, Client] = {}

    def clients(self) -> None:
        top = self._document.value
        found = top.get("clients") if isinstance(top, dict) else None
        if not isinstance(found, dict) or not found or len(top) != 1:  # type: ignore[arg-type]
            self._note((), "must have one key, `clients`, with a client or more")
            return
        for name, fields in found.items():
            place = ("clients", str(name))
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                self._note(place, "a client's name has 1 to 63 letters, digits, `_`, `.`, `-`")
            elif not isinstance(fields, dict):
                self._note(place, f"{name}: must have `tenants`, and `tokens` or `certificates`")
            else:
                self._client(name, fields, place)

    def _client(self, name: str, fields: Mapping[Any, Any], place: Place) -> None:
        for key in fields:
            if key not in _KEYS:
                near = difflib.get_close_matches(str(key), _KEYS, n=1)
                self._note((*place, str(key)), f"{name}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
        tokens = self._words(fields, "tokens", name, place)
        certificates = self._words(fields, "certificates", name, place)
        if not tokens and not certificates:
            self._note(place, f"{name}: has neither `tokens` nor `certificates`, so nobody could be this client")
        quota = read_quota(fields, lambda key, what: self._note((*place, key), f"{name}: `{key}` {what}"))
        client = Client(name, self._tenants(fields, name, place), quota)
        for index, token in enumerate(tokens):
            digest = _DIGEST.fullmatch(token)
            where = (*place, "tokens", str(index))
            if digest is None:
                self._note(where, f"{name}: a token is written as `sha256:` and 64 hex digits; never the token itself")
            elif self.by_token.setdefault(bytes.fromhex(digest[1]), client) is not client:
                self._note(where, f"{name}: the token is another client's too")
        for index, certificate in enumerate(certificates):
            if self.by_certificate.setdefault(certificate, client) is not client:
                self._note((*place, "certificates", str(index)), f"{name}: the certificate is another client's too")

    def _tenants(self, fields: Mapping[Any, Any], name: str, place: Place) -> frozenset[str] | None:
        if fields.get("tenants") == _ALL:
            return None
        tenants = self._words(fields, "tenants", name, place)
        if not tenants:
            self._note(place, f"{name}: `tenants` must be a list of tenant ids, or `{_ALL}`")
        return frozenset(tenants)

    def _words(self, fields: Mapping[Any, Any], key: str, name: str, place: Place) -> list[str]:
        found = fields.get(key, [])
        if key == "tenants" and not isinstance(found, list):
            return []
        if not isinstance(found, list) or not all(isinstance(word, str) and word for word in found):
            self._note((*place, key), f"{name}: `{key}` must be a list of texts")
            return []
        return found

    def _note(self, place: Place, what: str) -> None:
        lines: Mapping[Place, int] = self._document.lines
        while place and place not in lines:
            place = place[:-1]
        self.mistakes.append((lines.get(place, 1), what))
