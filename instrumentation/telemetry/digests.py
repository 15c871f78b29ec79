"""Keyed digests: two things can be told to be the same, and neither can be found out from what is sent.

The key is drawn at the start of the process, or set (`TENANTSCOPE_DIGEST_KEY`) to the same value in all processes of an
application, so that a state which one worker saved is known again when another loads it. The tenant goes into every
digest: what two tenants have in common does not show.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from typing import Any, Final

from instrumentation.tenancy import Tenant

_MAX_NODES: Final = 20_000
_MAX_BYTES: Final = 4 * 2**20
_MAX_BITS: Final = 4096  # an integer of more digits Python may refuse to print
_KEY_BYTES: Final = 64  # the longest that BLAKE2b takes


class Digests:
    """Makes digests under one key.

    Args:
        key: any text; None for a random one.
    """

    def __init__(self, key: str | None = None) -> None:
        self._key = (
            secrets.token_bytes(32)
            if key is None
            else hashlib.blake2b(key.encode(), digest_size=_KEY_BYTES, person=b"tenantscope-key").digest()
        )

    def of_text(self, tenant: Tenant, text: str) -> str:
        """The digest of a short text, in the form of a UUID."""
        return _as_uuid(self._begin(tenant, b"text", text.encode("utf-8", "surrogatepass")))

    def of_state(self, tenant: Tenant, state: Any) -> tuple[int, str] | None:
        """Size and digest of a state: of dicts with text keys, lists, tuples, text, numbers, booleans and None.

        The order of keys makes no difference, nor does a tuple that comes back from JSON as a list. The size is that
        of all keys and values, in bytes of UTF-8 without punctuation. None for anything else in it, and for a state of
        more than 20,000 values or 4 MiB, which would hold the event loop for more than some milliseconds.
        """
        digest, size, nodes = self._begin(tenant, b"state"), 0, 0
        waiting: list[Any] = [state]
        while waiting:
            node = waiting.pop()
            nodes += 1
            kind = type(node)
            if kind is dict:
                if any(type(key) is not str for key in node):
                    return None
                mark = b"{%d" % len(node)
                nodes += len(node)
                for key in sorted(node, reverse=True):
                    waiting += (node[key], key)
            elif kind is list or kind is tuple:
                mark = b"[%d" % len(node)
                waiting.extend(reversed(node))
            elif kind is str:
                if len(node) > _MAX_BYTES:
                    return None
                text = node.encode("utf-8", "surrogatepass")
                size += len(text)
                mark = b'"%d:%b' % (len(text), text)
            elif node is None or kind in (bool, float) or (kind is int and node.bit_length() < _MAX_BITS):
                mark = repr(node).encode() + b";"
                size += len(mark) - 1
            else:
                return None
            if nodes + len(waiting) > 2 * _MAX_NODES or nodes > _MAX_NODES or size > _MAX_BYTES:
                return None
            digest.update(mark)
        return size, _as_uuid(digest)

    def _begin(self, tenant: Tenant, what: bytes, about: bytes = b"") -> Any:
        name = tenant.name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(digest_size=16, key=self._key, person=b"tenantscope")
        digest.update(b"%b:%d:%b:%b" % (what, len(name), name, about))
        return digest


def _as_uuid(digest: Any) -> str:
    """In the form that RFC 9562 leaves to whoever makes one (version 8)."""
    number = int.from_bytes(digest.digest(), "big")
    number = number & ~(0xF << 76) | 8 << 76
    return str(uuid.UUID(int=number & ~(0x3 << 62) | 2 << 62))
