"""Sidecars for tests, in this process: what they have in common unless a test is about it."""

from __future__ import annotations

from pathlib import Path

from sidecar.configuration.settings import Settings


def configured(folder: Path, **more: str) -> Settings:
    """On ports of its own, with its state in this folder; `more` by the settings' names, without `TENANTSCOPE_`."""
    given = {"LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "STATE_DIR": str(folder / "state"), **more}
    return Settings.from_environment({f"TENANTSCOPE_{key}": value for key, value in given.items()})
