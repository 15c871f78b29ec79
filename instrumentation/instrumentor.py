"""For `opentelemetry-instrument python app.py`: starts the library with settings from the environment.

The command comes with the package `opentelemetry-instrumentation`, finds this class by its entry point, and is the only
one who needs it: nothing else here imports this module. Whatever the command starts beside us keeps its own spans.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from . import lifecycle


class TenantscopeInstrumentor(BaseInstrumentor):
    """`instrument()` is `instrumentation.start()`, `uninstrument()` is `instrumentation.stop()`."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """What the command looks for before it loads us; without AutoGen there is nothing to watch."""
        return ("autogen-core >= 0.7.5, < 0.8",)

    def _instrument(self, **_: Any) -> None:
        lifecycle.start()

    def _uninstrument(self, **_: Any) -> None:
        lifecycle.stop()
