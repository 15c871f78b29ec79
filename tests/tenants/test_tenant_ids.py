"""Which tenant ids are valid, and what happens to the others."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumentation import InvalidTenantError, diagnostics
from instrumentation.tenancy import OTHER_SLOT, TenantTable, validate

GOOD = [
    "acme",
    "a",
    "Acme Inc",
    "a/b",
    "a%2Fb",
    "../x",
    "a:b",
    "x" * 255,
    "zażółć",
    "аcme",
    "租户",
    "tenant-00042",
]
BAD = [
    None, 7, True, b"acme", ["acme"], "", " ", " acme", "acme ", "x" * 256, "x" * 1_000_000, "a\x00b", "a\nb", "a\r\nb",
    "a\x1b[31mb", "a\u202eb", "a\u200bb", "\ud800", "e\u0301", "\ufb01".replace("\ufb01", "a\u2028b"), "a\u0378",
]  # fmt: skip


@pytest.mark.parametrize("tenant_id", GOOD)
def test_a_valid_id_is_taken_as_it_is(tenant_id: str) -> None:
    """Nothing is normalised: look-alikes, case and encodings stay different tenants."""
    table = TenantTable()
    assert validate(tenant_id) == tenant_id
    assert table.intern(tenant_id).id == tenant_id


@pytest.mark.parametrize("tenant_id", BAD, ids=range(len(BAD)))
def test_a_bad_id_is_an_error_in_configuration_and_unknown_at_run_time(tenant_id: object) -> None:
    """The error names the rule and never repeats the id; at run time it is counted."""
    with pytest.raises(InvalidTenantError) as caught:
        validate(tenant_id)
    if isinstance(tenant_id, str) and len(tenant_id.strip()) > 1:
        assert tenant_id not in str(caught.value)
    before = diagnostics.counts().get("tenant.invalid", 0)
    table = TenantTable()
    assert table.intern(tenant_id) is table.unknown
    assert diagnostics.counts()["tenant.invalid"] == before + 1


def test_objects_that_misbehave_are_only_a_bad_id() -> None:
    """Of a string whose own methods raise, the characters count: they are read without its help."""

    class Hostile(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise RuntimeError("hash")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

    table = TenantTable()
    assert table.intern(Hostile("acme")) is table.intern("acme")
    assert table.intern(Hostile("a\nb")) is table.unknown


@given(st.text(max_size=300))
def test_what_is_valid_is_canonical_and_printable(text: str) -> None:
    """Every accepted id is NFC, bounded, and free of control and format characters."""
    try:
        accepted = validate(text)
    except InvalidTenantError:
        return
    assert accepted == text
    assert unicodedata.normalize("NFC", accepted) == accepted
    assert 0 < len(accepted) <= 255
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in accepted)
    accepted.encode()


def test_tenants_beyond_the_bound_share_other() -> None:
    """A million ids neither grow the table nor lose the first ones their slots."""
    table = TenantTable(bound=3)
    first = [table.intern(f"t{n}") for n in range(3)]
    assert [tenant.slot for tenant in first] == [2, 3, 4]
    assert {table.intern(f"more{n}").slot for n in range(10_000)} == {OTHER_SLOT}
    assert len(table.in_order()) == 5
    assert table.intern("t1") is first[1]


def test_listeners_hear_of_every_tenant_before_it_is_used() -> None:
    """A listener gets the known tenants at once and the later ones as they come, each once."""
    table = TenantTable()
    table.intern("early")
    heard: list[str] = []

    def listener(tenant: object) -> None:
        heard.append(tenant.id)  # type: ignore[attr-defined]

    table.listen(listener)
    table.intern("late")
    table.intern("late")
    table.unlisten(listener)
    table.intern("unheard")
    assert heard == ["unknown", "other", "early", "late"]


def test_another_bound_leaves_numbers_alone() -> None:
    """Who is bound already keeps the slot, so that nobody's time is ever charged to somebody else."""
    table = TenantTable(bound=10)
    early = [table.intern(f"t{n}") for n in range(5)]
    table.resize(3)
    assert [table.intern(f"t{n}") for n in range(5)] == early
    assert table.intern("late").slot == OTHER_SLOT
    table.resize(6)
    assert table.intern("later").slot == 7
    assert table.intern("latest").slot == OTHER_SLOT
