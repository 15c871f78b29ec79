"""Tenant-true observability for applications that serve many tenants on Microsoft AutoGen.

    import instrumentation
    instrumentation.start(service_name="billing-agents")
    with instrumentation.tenant("acme"):
        await team.run(task=...)

Data flows one way: `hooks/` turn what AutoGen does into an `Activity`, which has no field for content; `telemetry/`
turns an Activity into a span and metrics and exports them; `loop/` accounts the event loop by tenant and publishes it
in a cell that the sidecar can read while the application hangs.
"""

from .budgets import TurnBudgetExceeded, budget
from .lifecycle import flush, start, stop
from .settings import ConfigurationError
from .tenancy import InvalidTenantError, current_tenant, tenant

__all__ = [
    "ConfigurationError", "InvalidTenantError", "TurnBudgetExceeded", "budget", "current_tenant", "flush", "start",
    "stop", "tenant",
]  # fmt: skip
