"""A call that a loop hands to an executor belongs to the tenant of who handed it over, and sees nothing else new."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from autogen_core import CancellationToken
from autogen_core.tools import FunctionTool

from instrumentation.loop import Loops
from instrumentation.tenancy import current_tenant, tenant

Run = Callable[[Any], Any]
variable = contextvars.ContextVar("variable", default="nobody's")


@pytest.fixture
def run(loops: Loops, new_loop: Callable[[], Any]) -> Any:
    """Runs a coroutine function on a loop of each kind."""
    loop = new_loop()
    yield lambda main: loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_a_synchronous_tool_works_for_its_tenant(run: Run) -> None:
    """AutoGen runs it in a thread of the loop's executor, which knew nobody."""

    def look_up(question: str) -> str:
        return f"{current_tenant()} {threading.current_thread() is threading.main_thread()}"

    tool = FunctionTool(look_up, description="looks something up")

    async def main() -> list[str]:
        async def ask(name: str) -> str:
            with tenant(name):
                return str(await tool.run_json({"question": "?"}, CancellationToken()))

        return [
            *await asyncio.gather(*(ask(name) for name in ("acme", "globex"))),
            await tool.run_json({"question": "?"}, CancellationToken()),
        ]

    assert run(main) == ["acme False", "globex False", "None False"]


def test_a_thread_is_nobodys_again_afterwards(run: Run) -> None:
    """The next call in the same thread does not inherit a tenant, also not after an exception."""

    def fails() -> None:
        raise LookupError("of the application")

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            with tenant("acme"):
                seen = [await loop.run_in_executor(pool, current_tenant)]
                with pytest.raises(LookupError):
                    await loop.run_in_executor(pool, fails)
            seen.append(await loop.run_in_executor(pool, current_tenant))
            seen.append(pool.submit(current_tenant).result(10))
        return seen

    assert run(main) == ["acme", None, None]


def test_other_context_stays_behind_as_without_us(run: Run) -> None:
    """The application's own context variables are not carried into the executor: bare asyncio does not, either."""

    async def main() -> list[Any]:
        variable.set("acme's")
        with tenant("acme"):
            loop = asyncio.get_running_loop()
            return [await loop.run_in_executor(None, variable.get), await asyncio.to_thread(variable.get)]

    assert run(main) == ["nobody's", "acme's"]


def test_arguments_results_and_refusals_are_the_loops_own(run: Run, loop_kind: str) -> None:
    """Positional arguments pass, and what a loop refuses to run it refuses as ever."""

    async def coroutine_function() -> None:
        raise AssertionError("must not run")

    async def main() -> int:
        loop = asyncio.get_running_loop()
        with tenant("acme"):
            if loop_kind != "stock":  # which refuses only in debug mode
                with pytest.raises(TypeError, match="run_in_executor"):
                    await loop.run_in_executor(None, coroutine_function)
            with pytest.raises(TypeError):
                await loop.run_in_executor(None, 7)  # type: ignore[arg-type]
            return await loop.run_in_executor(None, functools.partial(int, base=16), "ff")

    assert run(main) == 255


def test_a_process_pool_gets_the_plain_call(run: Run) -> None:
    """It is pickled there: what arrives is the application's function, and nothing of ours."""

    async def main() -> tuple[int, str | None]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, tenant("acme"):
            return await loop.run_in_executor(pool, pid_and_tenant)

    pid, seen = run(main)
    assert pid != os.getpid()
    assert seen is None


def test_a_process_of_a_pool_does_not_import_us(run: Run) -> None:
    """Nor AutoGen, nor gRPC, half a second and many megabytes of them: it does arithmetic, perhaps."""
    imported = "{name.partition('.')[0] for name in __import__('sys').modules}"

    async def main() -> set[str]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, tenant("acme"):
            return await loop.run_in_executor(pool, eval, imported)

    assert run(main).isdisjoint({"instrumentation", "sidecar", "autogen_core", "grpc"})


def pid_and_tenant() -> tuple[int, str | None]:
    return os.getpid(), current_tenant()
