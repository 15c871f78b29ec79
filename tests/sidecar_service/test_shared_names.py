"""The library and the sidecar may not import each other; these tests hold their words together."""

from __future__ import annotations

from instrumentation import conventions as library
from instrumentation import settings as library_settings
from sidecar.configuration.table import LIBRARY_KEYS, SETTINGS
from sidecar.delivery.rows import INSTANCE, SERVICE, TENANT
from sidecar.delivery.store import SUMMED


def test_the_store_adds_up_what_the_library_emits() -> None:
    """A metric or attribute that was renamed on one side is found here, not in an empty table."""
    assert set(SUMMED) <= {metric.name for metric in library.METRICS}
    assert TENANT == library.TENANT_ID
    assert {SERVICE, INSTANCE} <= set(library.RESOURCE_ATTRIBUTES)


def test_both_halves_may_share_one_environment() -> None:
    """Each side knows the other's keys, and refuses only those that nobody knows."""
    ours = {setting.key for setting in SETTINGS}
    theirs = {setting.key for setting in library_settings.SETTINGS if setting.key.startswith("TENANTSCOPE_")}
    assert theirs == LIBRARY_KEYS
    assert ours - theirs == set(library_settings.SIDECAR_KEYS)  # both read the limits
