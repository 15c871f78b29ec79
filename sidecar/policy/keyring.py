"""The master keys of pseudonyms: a small file in the state folder, for the sidecar alone to read, the key in use first.

    k2 <64 hexadecimal digits>
    k1 <64 hexadecimal digits>

It is made at first use. `rotate` puts a new key before the others: from then on pseudonyms are made with it, and the
older keys stay, so that whoever holds the file can still say what a known tenant was called (`tenantscope policy
pseudonym`). `retire` ends that overlap. What it refuses: a file that others can read or that is not what we wrote; it
is never quietly replaced, for with it the pseudonyms of months would be gone.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from sidecar.configuration.settings import ConfigurationError
from sidecar.redaction import MasterKey

NAME: Final = "tenants.keys"
MAX_KEYS: Final = 8
_KEY_BYTES: Final = 32
_LINE: Final = re.compile(r"(k[1-9][0-9]{0,5}) ([0-9a-f]{64})")
_MAX_BYTES: Final = 1024


def read_keys(folder: Path, setting: str) -> tuple[MasterKey, ...]:
    """The master keys, the one in use first; the first one is made when there is no file.

    Args:
        folder: ours alone.
        setting: that named the folder.

    Raises:
        ConfigurationError: the file cannot be read or made, others can read it, or it is not what we wrote.
    """
    if not os.path.lexists(folder / NAME):
        return _replaced(folder, setting, (_new(1),))
    return known_keys(folder, setting)


def known_keys(folder: Path, setting: str) -> tuple[MasterKey, ...]:
    """The master keys, the one in use first, for whoever has had them before: that there are none is a mistake then.

    Raises:
        ConfigurationError: the file is not there, or as for `read_keys`.
    """
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            text = file.read(_MAX_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot use {str(path)!r}: {error.strerror}") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigurationError(f"{setting}: others can read the keys in {str(path)!r}; close it with `chmod 600`")
    keys = _parsed(text)
    if not keys:
        raise ConfigurationError(
            f"{setting}: {str(path)!r} holds no keys as they were written; restore it, or start without it to get "
            f"a new one: then every pseudonym is another"
        )
    return keys


def rotate(folder: Path, setting: str) -> tuple[MasterKey, ...]:
    """Put a new key in use, before the others.

    Raises:
        ConfigurationError: as for `read_keys`; or there are `MAX_KEYS` already.
    """
    keys = read_keys(folder, setting)
    if len(keys) >= MAX_KEYS:
        raise ConfigurationError(f"{setting}: there are {MAX_KEYS} keys; retire {keys[-1].id} first")
    newest = max(int(key.id[1:]) for key in keys)
    return _replaced(folder, setting, (_new(newest + 1), *keys))


def retire(folder: Path, setting: str, key_id: str) -> tuple[MasterKey, ...]:
    """Forget an older key: what it named cannot be told any more.

    Raises:
        ConfigurationError: as for `read_keys`; or there is no such key, or it is the one in use.
    """
    keys = read_keys(folder, setting)
    if key_id not in {key.id for key in keys[1:]}:
        older = ", ".join(key.id for key in keys[1:]) or "none"
        raise ConfigurationError(f"{setting}: no key to retire is called so; the older ones are: {older}")
    return _replaced(folder, setting, tuple(key for key in keys if key.id != key_id))


def _new(number: int) -> MasterKey:
    return MasterKey(f"k{number}", secrets.token_bytes(_KEY_BYTES))


def _parsed(text: bytes) -> tuple[MasterKey, ...]:
    try:
        lines = text.decode("ascii").splitlines()
    except UnicodeDecodeError:
        return ()
    found = [_LINE.fullmatch(line) for line in lines]
    keys = tuple(MasterKey(match[1], bytes.fromhex(match[2])) for match in found if match is not None)
    whole = len(keys) == len(lines) <= MAX_KEYS
    return keys if whole and len({key.id for key in keys}) == len({key.secret for key in keys}) == len(keys) else ()


def _replaced(folder: Path, setting: str, keys: tuple[MasterKey, ...]) -> tuple[MasterKey, ...]:
    path = folder / NAME
    try:
        return _write(path, keys)
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot write {str(path)!r}: {error.strerror}") from None


def _write(path: Path, keys: tuple[MasterKey, ...]) -> tuple[MasterKey, ...]:
    """Write the file in one step: there is never half of it. Raises OSError."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write("".join(f"{key.id} {key.secret.hex()}\n" for key in keys).encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return keys
