"""`with tenant(...)` and `@tenant(...)`: who is bound where, and for how long."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading

import pytest

from instrumentation import current_tenant, tenant


def test_nobody_is_bound_outside() -> None:
    """Without a binding the tenant is None, before, between and after."""
    assert current_tenant() is None
    with tenant("acme"):
        assert current_tenant() == "acme"
        with tenant("globex"):
            assert current_tenant() == "globex"
        assert current_tenant() == "acme"
    assert current_tenant() is None


def test_a_bad_id_binds_unknown_and_never_raises() -> None:
    """The application goes on."""
    for bad in ("", "x" * 1000, None, object()):
        with tenant(bad):  # type: ignore[arg-type]
            assert current_tenant() == "unknown"


def test_an_exception_unbinds_and_passes() -> None:
    """The block never swallows."""
    with pytest.raises(KeyError), tenant("acme"):
        raise KeyError
    assert current_tenant() is None


def test_one_object_serves_many_tasks_at_once() -> None:
    """Tasks that enter the same object in any order each see it, and each leave cleanly."""
    acme = tenant("acme")

    async def visit(entered: asyncio.Event, leave: asyncio.Event) -> str | None:
        with acme:
            entered.set()
            await leave.wait()
            inside = current_tenant()
        assert current_tenant() is None
        return inside

    async def main() -> list[str | None]:
        events = [(asyncio.Event(), asyncio.Event()) for _ in range(3)]
        tasks = [asyncio.create_task(visit(*pair)) for pair in events]
        for entered, _ in events:
            await entered.wait()
        for _, leave in reversed(events):
            leave.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == ["acme"] * 3


def test_decorated_functions_keep_their_nature() -> None:
    """Sync stays sync, async stays async, names and results stay."""

    @tenant("acme")
    def plain(x: int) -> tuple[int, str | None]:
        return x, current_tenant()

    @tenant("acme")
    async def coroutine(x: int) -> tuple[int, str | None]:
        await asyncio.sleep(0)
        return x, current_tenant()

    assert plain.__name__ == "plain"
    assert plain(1) == (1, "acme")
    assert asyncio.iscoroutinefunction(coroutine)
    assert asyncio.run(coroutine(2)) == (2, "acme")
    assert current_tenant() is None


def test_a_function_that_returns_a_coroutine_binds_that_too() -> None:
    """What is made by a plain function runs when it is awaited, and for the tenant all the same; so with partials."""

    async def see() -> str | None:
        await asyncio.sleep(0)
        return current_tenant()

    made = tenant("acme")(lambda: see())
    partial = tenant("acme")(functools.partial(see))

    async def main() -> list[str | None]:
        with tenant("globex"):
            return [await made(), await partial(), await asyncio.create_task(made()), current_tenant()]

    assert asyncio.run(main()) == ["acme", "acme", "acme", "globex"]
    assert current_tenant() is None


def test_a_generator_cannot_be_decorated() -> None:
    """Its body runs inside whoever iterates it, so the decorator refuses at definition time and says what to do."""
    with pytest.raises(TypeError, match="generator"):

        @tenant("acme")
        def pieces() -> object:
            yield 1


def test_a_generator_closed_elsewhere_unbinds_nothing_of_others() -> None:
    """Leaving the block in another context does not touch the tenant bound there."""

    def holding() -> object:
        with tenant("acme"):
            yield current_tenant()

    generator = holding()
    assert contextvars.copy_context().run(next, generator) == "acme"  # type: ignore[call-overload]
    with tenant("globex"):
        generator.close()  # type: ignore[attr-defined]
        assert current_tenant() == "globex"
    assert current_tenant() is None


def test_children_inherit_threads_do_not() -> None:
    """Tasks, gather, to_thread and call_later carry the tenant; a plain thread starts with none."""

    async def main() -> list[str | None]:
        loop = asyncio.get_running_loop()
        later: asyncio.Future[str | None] = loop.create_future()

        async def see() -> str | None:
            return current_tenant()

        with tenant("acme"):
            loop.call_later(0, lambda: later.set_result(current_tenant()))
            seen = [
                await asyncio.create_task(see()),
                *(await asyncio.gather(see(), see())),
                await asyncio.to_thread(current_tenant),
                await later,
            ]
        bare: list[str | None] = []
        with tenant("acme"):
            thread = threading.Thread(target=lambda: bare.append(current_tenant()))
            thread.start()
            thread.join()
        return seen + bare

    assert asyncio.run(main()) == ["acme"] * 5 + [None]


def test_sixty_four_threads_bind_their_own() -> None:
    """No binding crosses threads."""
    wrong: list[int] = []
    together = threading.Barrier(64)

    def work(n: int) -> None:
        together.wait()
        for _ in range(200):
            with tenant(f"t{n}"):
                if current_tenant() != f"t{n}":
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
