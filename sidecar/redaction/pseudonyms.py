"""Names in the place of names: what a policy's `pseudonymise` and `hash` write, and the tags of masked tenants.

A master key has an id. From it, HKDF (RFC 5869, SHA-256) derives a key for each tenant, and HMAC-SHA256 under that key
makes a pseudonym: one value has one pseudonym within a tenant and another in every other tenant, so that nobody who
sees two tenants' telemetry can tell that they share a customer. A `hash` is made under one key for all tenants.

    p-k2-cfmbnjbhlcpogdea       a pseudonym: the id of the master key, and 64 bits in 16 letters from a to p
    h-k2-ofkpmdabgciejlnh       a hash
    [redacted:email:cfmbnjbhlcpo]   the mask of a tenant's id, with the first letters of its pseudonym

Letters alone, for digits would be taken for a number that is somebody's. What it refuses: to keep anything. Keys of
tenants are derived when they are needed (4 us), and whoever dumps the process finds no table of who is who.
"""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

KEY_BYTES: Final = 32
_HASH: Final = "sha256"
_SALT: Final = b"tenantscope pseudonyms 1"
_DIGEST_BYTES: Final = 8  # two of a million names share a pseudonym in one installation of thirty-seven million
_TAG_LETTERS: Final = 12
_TO_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


class MasterKey(NamedTuple):
    """A key that all others are derived from.

    Attributes:
        id: a short word that says which one it is; stands in every pseudonym.
        secret: 32 bytes.
    """

    id: str
    secret: bytes


class Pseudonyms:
    """What names are replaced by, under one master key. Immutable; shared by threads.

    Raises:
        ValueError: the key has not 32 bytes.
    """

    def __init__(self, key: MasterKey) -> None:
        if len(key.secret) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self.key_id = key.id
        self._root = extract(_SALT, key.secret)
        self._shared = expand(self._root, b"hash")

    def of(self, tenant: bytes, value: bytes) -> str:
        """The pseudonym of a value of this tenant; of the tenant itself, when the value is its id."""
        return f"p-{self.key_id}-{_letters(self._tenants_key(tenant), value)}"

    def hash(self, value: bytes) -> str:
        """The same for one value whoever's it is."""
        return f"h-{self.key_id}-{_letters(self._shared, value)}"

    def tag(self, tenant: bytes) -> str:
        """What tells the mask of a tenant's id from that of another: the first letters of the pseudonym."""
        return _letters(self._tenants_key(tenant), tenant)[:_TAG_LETTERS]

    def _tenants_key(self, tenant: bytes) -> bytes:
        return expand(self._root, b"tenant\0" + tenant)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256, RFC 5869, section 2.2."""
    return hmac.digest(salt, secret, _HASH)


def expand(root: bytes, info: bytes) -> bytes:
    """The first 32 bytes of HKDF-Expand with SHA-256, RFC 5869, section 2.3: one block."""
    return hmac.digest(root, info + b"\x01", _HASH)


def _letters(key: bytes, value: bytes) -> str:
    return hmac.digest(key, value, _HASH)[:_DIGEST_BYTES].hex().translate(_TO_LETTERS)
