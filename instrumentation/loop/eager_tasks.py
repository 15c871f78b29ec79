"""Gives the loop back to who started a task that began at once.

An eager task (Python 3.12 and newer) runs inside `create_task`, up to its first wait. When it waits in the middle of
`with tenant(...)`, its creator goes on, in a context in which nothing was bound or unbound: without this, the creator's
time would be charged to the task's tenant until the creator's own next wait.

What it refuses: to change `create_task` where no task can be eager, before 3.12. A task that is made eager past
`create_task`, by `asyncio.Task(..., eager_start=True)`, is not noticed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

POSSIBLE: Final = sys.version_info >= (3, 12)


def create_task(original: Callable[..., Any], resumed: Callable[[], object]) -> Callable[..., Any]:
    """A loop's `create_task` that calls `resumed` when its caller goes on after a task that may have been eager."""

    @functools.wraps(original)
    def create_task(self: Any, coro: Any, **options: Any) -> Any:
        task = original(self, coro, **options)
        if self.get_task_factory() is not None or options.get("eager_start"):
            resumed()
        else:
            as_made_by_caller(task)
        return task

    return create_task


def as_made_by_caller(made: Any) -> Any:
    """In debug mode handles and tasks know where they were made; our own line is taken out."""
    made_at = getattr(made, "_source_traceback", None)
    if made_at:
        del made_at[-1]
    return made
