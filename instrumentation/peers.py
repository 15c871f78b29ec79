"""Whom to believe: keys with which the processes of a distributed runtime vouch for the tenant of a message.

AutoGen's host takes messages from whoever can connect, and a message says of itself what it likes. So a tenant that
comes from another process is believed when one of the keys here sealed it, together with the trace that it belongs to,
and when that key may speak for that tenant. The keys are in a file that the processes share
(`TENANTSCOPE_PEER_KEYS_FILE`), one a line:

    # The first key seals; all of them are believed.
    4fd0a8c61b7f2d90e3356a7cbb18f402
    9be27f1c05d84a63a1f00c7d52e6b839  globex initech    # may speak for these tenants only

A tenant's id is percent-encoded where it has a blank, `#` or `%` in it. The file is looked at for each export of
metrics and read again when it has changed; while what is there cannot be used, the keys of before stay. Without a file
the key is the process's own, drawn when it is needed: messages that come back to where they were sent from keep their
tenant, and no others do.

The seal is HMAC-SHA-256, cut to 128 bits (RFC 2104, section 5). What it refuses: to say which part of a seal is wrong.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from .diagnostics import count, log

MIN_SECRET: Final = 32
MAX_KEYS: Final = 16  # each costs a forged seal another microsecond
_MAX_BYTES: Final = 64 * 1024
_SEAL_BYTES: Final = 16
_WHAT: Final = b"tenantscope-passport;"  # nothing else that a key is used for begins like this


class PeersError(ValueError):
    """The file of keys cannot be used.

    Attributes:
        mistakes: one line for each, without any part of a key.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class Key:
    """One key, and whom it may speak for; `tenants` None: for everybody."""

    __slots__ = ("_mac", "secret", "tenants")

    def __init__(self, secret: bytes, tenants: frozenset[str] | None = None) -> None:
        self.secret = secret
        self.tenants = tenants
        # Begun once: to copy it costs a third of what a new one does.
        self._mac = hmac.new(secret, _WHAT, "sha256")

    def speaks_for(self, tenant: str) -> bool:
        """Whether what this key sealed is believed of `tenant`."""
        return self.tenants is None or tenant in self.tenants

    def seal(self, text: bytes) -> str:
        """22 characters of URL-safe base64."""
        mac = self._mac.copy()
        mac.update(text)
        return base64.urlsafe_b64encode(mac.digest()[:_SEAL_BYTES]).rstrip(b"=").decode()


_Look = tuple[int, int, int, int] | None


class Peers:
    """The keys of this process.

    Args:
        keys: the first seals, all are believed; none: a key that no other process has.
        source: the file that they are from, and what that looked like before it was read.
    """

    def __init__(self, keys: tuple[Key, ...] = (), source: tuple[Path, _Look] | None = None) -> None:
        #: other processes have our keys, so that what none of them sealed is a forgery
        self.shared = bool(keys)
        self._keys = keys or (Key(secrets.token_bytes(MIN_SECRET)),)
        self._source = source

    def renew(self) -> bool:
        """Read the file if it has changed; whether there are other keys since. Not for a loop's thread."""
        if self._source is None:
            return False
        path, before = self._source
        seen = _look(path)
        if seen == before:
            return False
        try:
            keys = _read(path)
        except PeersError as error:  # half written, or we have no descriptor left: to be tried again
            count("peers.unusable")
            log.warning("new peer keys cannot be used, the old ones stay", reasons=list(error.mistakes))
            return False
        self._source = path, seen
        if [(key.secret, key.tenants) for key in keys] == [(key.secret, key.tenants) for key in self._keys]:
            return False
        self._keys = keys  # at once: a message is judged by the old ones or by these
        log.info("new peer keys are in use", keys=len(keys))
        return True

    def seal(self, text: bytes) -> str:
        """The seal of `text` under the first key."""
        return self._keys[0].seal(text)

    def whose(self, text: bytes, seal: str) -> Key | None:
        """The key that sealed `text`; None when it is none of ours."""
        given = seal.encode("utf-8", "surrogatepass")
        for key in self._keys:
            if hmac.compare_digest(key.seal(text).encode(), given):
                return key
        return None


def load(path: Path) -> Peers:
    """The keys in a file.

    Raises:
        PeersError: it cannot be read, is open to everybody, or has a mistake in it.
    """
    seen = _look(path)  # before it is read: what changes meanwhile is then seen as a change
    return Peers(_read(path), (path, seen))


def _look(path: Path) -> _Look:
    """What a file looks like from outside; None when it is not there.

    Its permissions, and a rewrite that keeps size and time, change `st_ctime_ns`, which nobody can set.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _read(path: Path) -> tuple[Key, ...]:
    keys: list[Key] = []
    mistakes: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                keys.append(_key(*words))
            except ValueError as error:
                mistakes.append(f"line {number}: {error}")
    if not keys and not mistakes:
        mistakes.append("has no key in it")
    if len(keys) > MAX_KEYS:
        mistakes.append(f"has more than {MAX_KEYS} keys")
    if len({key.secret for key in keys}) < len(keys):
        mistakes.append("has the same key twice")
    if mistakes:
        raise PeersError(mistakes)
    return tuple(keys)


def _key(secret: str, *tenants: str) -> Key:
    if len(secret) < MIN_SECRET:
        raise ValueError(f"a key has at least {MIN_SECRET} characters; `openssl rand -hex 32` makes one")
    try:
        ids = frozenset(unquote(tenant, errors="strict") for tenant in tenants)
    except UnicodeDecodeError:
        raise ValueError("a tenant's id is UTF-8, percent-encoded") from None
    return Key(secret.encode(), ids or None)


def _lines(path: Path) -> list[str]:
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise PeersError(["is not a file"])
            if found.st_mode & 0o007:
                raise PeersError(["can be read by everybody; close it with `chmod o= FILE`"])
            content = file.read(_MAX_BYTES + 1)
    except OSError:
        raise PeersError(["cannot be read"]) from None
    if len(content) > _MAX_BYTES:
        raise PeersError([f"has more than {_MAX_BYTES} bytes"])
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        raise PeersError(["is not UTF-8"]) from None
