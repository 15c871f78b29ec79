"""What a tenant id may be.

What it refuses: to normalise an id. `Acme` and `acme` are two tenants; an id that is not in canonical Unicode form
(NFC) is invalid, not repaired, because two spellings that look the same would otherwise share one account.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_ID_CHARACTERS: Final = 255
RESERVED: Final = ("unknown", "other")


class InvalidTenantError(ValueError):
    """A tenant id breaks a rule. The message names the rule and never repeats the id."""


def validate(tenant_id: object) -> str:
    """Return `tenant_id` unchanged when it is a valid id, a subclass of `str` as the plain string that it holds.

    No method of the object itself is called: it may be anything.

    Raises:
        InvalidTenantError: not a string, empty, reserved, only white space around or in full, longer than 255
            characters, a control, format, surrogate or unassigned character in it, or not in Unicode normal form C.
    """
    kind = type(tenant_id)
    if kind is not str:
        if not issubclass(kind, str):
            raise InvalidTenantError("a tenant id must be a str")
        tenant_id = str.__str__(tenant_id)  # an enum's value, say
    assert type(tenant_id) is str  # noqa: S101  # for the type checker
    if not tenant_id:
        raise InvalidTenantError("a tenant id must not be empty")
    if tenant_id in RESERVED:
        raise InvalidTenantError("`unknown` and `other` stand for work without a tenant of its own")
    if len(tenant_id) > MAX_ID_CHARACTERS:
        raise InvalidTenantError(f"a tenant id has at most {MAX_ID_CHARACTERS} characters")
    if tenant_id.isascii():
        if not tenant_id.isprintable():
            raise InvalidTenantError("a tenant id must not contain control characters")
    else:
        # Cc control, Cf format (bidi overrides, zero-width), Cs lone surrogates, Cn unassigned, Zl/Zp line breaks.
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") for c in tenant_id):
            raise InvalidTenantError("a tenant id must not contain control, format or unassigned characters")
        if not unicodedata.is_normalized("NFC", tenant_id):
            raise InvalidTenantError("a tenant id must be in Unicode normal form C")
    if tenant_id != tenant_id.strip():
        raise InvalidTenantError("a tenant id must not begin or end with white space")
    return tenant_id
