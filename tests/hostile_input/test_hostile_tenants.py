"""Whatever is given as a tenant, from wherever: a tenant is bound, nothing is raised, no foreign code runs."""

from __future__ import annotations

import asyncio
import enum
import gc
import socket
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from autogen_apps import Answer, Ask, Asked, ask_runtime
from autogen_core import AgentId

import instrumentation
from instrumentation import current_tenant, diagnostics, lifecycle, tenancy, tenant
from instrumentation.activity import Activity, Kind
from instrumentation.tenancy import TenantTable
from instrumentation.testing import capture


class Touchy:
    """Every method that somebody might call in passing raises."""

    def _no(self, *_: Any) -> NoReturn:
        raise AssertionError("somebody touched it")

    __str__ = __repr__ = __hash__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = __format__ = _no  # type: ignore[assignment]


class TouchyText(str):
    """The same, but a string."""

    __slots__ = ()
    __str__ = __repr__ = __hash__ = __eq__ = __bool__ = __len__ = __iter__ = Touchy._no  # type: ignore[assignment]


class Customer(enum.StrEnum):
    ACME = "acme-enum"


def cyclic() -> dict[str, Any]:
    knot: dict[str, Any] = {}
    knot["itself"] = knot
    return knot


def deep() -> dict[str, Any]:
    """10,000 levels."""
    bottom: dict[str, Any] = {}
    for _ in range(10_000):
        bottom = {"deeper": bottom}
    return bottom


EVIL: list[Callable[[], object]] = [
    lambda: None, lambda: "", lambda: "   ", lambda: "x" * 1_000_000, lambda: "a\x00b", lambda: "a\r\nb",
    lambda: "\x1b[31m", lambda: "a\u202eb", lambda: "\ud800", lambda: "e\u0301", lambda: 2**70, lambda: float("nan"),
    lambda: float("inf"), lambda: b"acme", lambda: True, Touchy, cyclic, deep, lambda: (x for x in "ab"),
    threading.Lock, socket.socket, lambda: object, lambda: asyncio.Future(loop=asyncio.new_event_loop()),
]  # fmt: skip


@pytest.mark.parametrize("make", EVIL, ids=range(len(EVIL)))
def test_an_evil_id_binds_unknown_and_is_not_touched(make: Callable[[], object]) -> None:
    """As a context manager, as a decorator and as a resolver's answer; nothing of the object is called."""
    evil: Any = make()
    with tenant(evil):
        assert current_tenant() == "unknown"
    assert tenant(evil)(current_tenant)() == "unknown"

    async def main() -> Answer:
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        answer = await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()
        return answer  # type: ignore[no-any-return]

    with capture(resolver=lambda _: evil) as captured:
        assert asyncio.run(main()).text == "x"
        assert {(span.attributes or {})["tenant.id"] for span in captured.spans()} == {"unknown"}
    if isinstance(evil, socket.socket):
        evil.close()
    if isinstance(evil, asyncio.Future):
        evil.get_loop().close()


def test_a_kind_of_str_is_taken_by_its_characters() -> None:
    """Before and after the plain text has been seen; none of its own methods is called."""
    table = TenantTable()
    assert table.intern(Customer.ACME).id == "acme-enum"
    assert type(table.intern(Customer.ACME).id) is str
    assert table.intern(TouchyText("touchy")) is table.intern("touchy") is not table.unknown


def test_a_listener_that_fails_costs_nobody_anything() -> None:
    """Neither the binder, nor the other listeners, nor the tenant its slot."""
    heard: list[str] = []
    table = TenantTable()

    def broken(_: object) -> None:
        if len(table.in_order()) > 2 or heard:
            raise RuntimeError

    def fine(who: tenancy.Tenant) -> None:
        heard.append(who.id)

    table.listen(broken)
    table.listen(fine)
    assert table.intern("acme").id == "acme"
    assert heard == ["unknown", "other", "acme"]


def test_a_coroutine_dropped_elsewhere_unbinds_nobody(recwarn: pytest.WarningsRecorder) -> None:
    """Two calls of one decorated coroutine function: the end of the one, by the garbage collector and inside the other,
    leaves the other's tenant alone."""

    async def wait() -> None:
        await asyncio.Future()

    @tenant("acme")
    async def work(inner: Any) -> str | None:
        if inner is not None:
            inner()
            return current_tenant()
        await wait()
        return None

    first: list[Any] = []

    async def main() -> str | None:
        first.append(work(None))
        first[0].send(None)
        return await asyncio.create_task(work(lambda: first.pop().close()))

    assert asyncio.run(main()) == "acme"


def test_a_finalizer_may_come_in_at_any_moment() -> None:
    """The garbage collector runs where it likes, also while we hold a lock, and so do signal handlers.

    What they run may name tenants and end activities: nobody waits for himself, and no two tenants get one slot.
    """
    table = TenantTable()
    calls = 0

    def finalizer(phase: str, _: object) -> None:
        nonlocal calls
        calls += 1
        table.intern("bad\nid")
        table.intern(f"finalizer{calls}")
        work(calls)

    def work(n: int) -> None:
        table.intern(f"worker{n}")
        recorder.account(Activity(Kind.PROCESS, table.unknown, f"agent{n}", 0), 1.0)
        diagnostics.counts()

    def run() -> None:
        gc.callbacks.append(finalizer)
        gc.set_threshold(1, 1, 1)
        try:
            for n in range(50):
                work(1_000_000 + n)
        finally:
            gc.set_threshold(*threshold)
            gc.callbacks.remove(finalizer)

    threshold = gc.get_threshold()
    thread = threading.Thread(target=run, daemon=True)
    with capture():
        watched = lifecycle.running()
        assert watched is not None
        recorder = watched.recorder
        thread.start()
        thread.join(60)
    assert not thread.is_alive(), "deadlock"
    assert calls > 50
    slots = [known.slot for known in table.in_order()]
    assert slots == list(range(len(slots)))


def test_a_million_tenants() -> None:
    """The table, its listeners and the counts stay as large as they were after the first few."""
    table = TenantTable(bound=10)
    heard: list[str] = []
    table.listen(lambda who: heard.append(who.id))
    for n in range(1_000_000):
        table.intern(f"tenant-{n}")
    assert len(table.in_order()) == len(heard) == 12
    assert len(diagnostics.counts()) < 100


def test_the_resolver_is_somebody_elses_code() -> None:
    """It may raise what it likes, call us back, start and stop us; the message arrives and is nobody's."""

    class Odd(BaseException):
        pass

    def odd() -> NoReturn:
        raise Odd

    def back() -> str:
        instrumentation.start(service_name="again")
        with tenant("inner"):
            return current_tenant() or ""

    def stop() -> None:
        instrumentation.stop(0)

    async def ask() -> str | None:
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        answer = await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()
        return answer.tenant  # type: ignore[no-any-return]

    for call, expected in ((odd, None), (back, "inner"), (stop, None)):
        with capture(resolver=lambda _, call=call: call()):  # type: ignore[misc]
            assert asyncio.run(ask()) == expected


def test_ctrl_c_in_a_resolver_is_the_applications() -> None:
    """KeyboardInterrupt and SystemExit end the process, wherever they come up; we do not swallow them."""

    def interrupted(_: object) -> NoReturn:
        raise KeyboardInterrupt

    async def ask() -> None:
        runtime = await ask_runtime(asked=Asked)
        await runtime.send_message(Ask("x"), AgentId("asked", "k"))

    with capture(resolver=interrupted), pytest.raises(KeyboardInterrupt):
        asyncio.run(ask())


def test_a_resolver_that_is_a_coroutine_function_is_a_wrong_setting() -> None:
    """It could never answer: said at the start, not in every message."""

    async def resolver(_: object) -> str:
        return "acme"

    with pytest.raises(instrumentation.ConfigurationError, match="resolver"):
        instrumentation.start(resolver=resolver)  # type: ignore[arg-type]
