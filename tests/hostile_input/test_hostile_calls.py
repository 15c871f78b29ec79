"""start, stop, flush and tenant: called too early, too late, twice, at once, with nonsense, from strange places."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId, SingleThreadedAgentRuntime
from processes import run_python

import instrumentation
from instrumentation import lifecycle
from instrumentation.testing import capture

NONSENSE = [None, -1, 0, float("nan"), float("inf"), -float("inf"), 1e300, 10**400, "2", object(), True]


@pytest.mark.parametrize("timeout", NONSENSE, ids=repr)
def test_a_senseless_timeout_raises_nothing_and_leaves_nothing(timeout: Any) -> None:
    """`flush` and `stop` do their work within it, or give up at once; afterwards nothing is attached."""
    before = dict(vars(SingleThreadedAgentRuntime))
    with capture():
        assert instrumentation.flush(timeout) in (True, False)
        instrumentation.stop(timeout)
        assert lifecycle.running() is None
    assert dict(vars(SingleThreadedAgentRuntime)) == before


def test_out_of_order() -> None:
    """Before start, after stop, twice."""
    before = dict(vars(SingleThreadedAgentRuntime))
    for _ in range(2):
        assert instrumentation.flush(0.1)
        instrumentation.stop()
        instrumentation.stop()
    for _ in range(2):
        instrumentation.start(endpoint="http://127.0.0.1:1")
        instrumentation.start(endpoint="http://127.0.0.1:1")
        instrumentation.stop(0.2)
        instrumentation.stop(0.2)
    assert dict(vars(SingleThreadedAgentRuntime)) == before
    assert instrumentation.current_tenant() is None


def test_start_and_stop_from_many_threads_while_messages_flow() -> None:
    """Eight threads start and stop at will; every message arrives, and in the end nothing is attached."""
    before = dict(vars(SingleThreadedAgentRuntime))
    enough = threading.Event()
    errors: list[BaseException] = []

    def toggle() -> None:
        try:
            while not enough.is_set():
                instrumentation.start(endpoint="http://127.0.0.1:1")
                instrumentation.flush(0)
                instrumentation.stop(0.05)
        except BaseException as error:
            errors.append(error)

    async def main() -> list[str]:
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        answers = []
        for n in range(300):
            with instrumentation.tenant(f"t{n % 7}"):
                answers.append((await runtime.send_message(Ask(str(n)), AgentId("asked", "k"))).text)
        await runtime.stop_when_idle()
        return answers

    threads = [threading.Thread(target=toggle) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        assert asyncio.run(main()) == [str(n) for n in range(300)]
    finally:
        enough.set()
        for thread in threads:
            thread.join(60)
    instrumentation.stop()
    assert errors == []
    assert dict(vars(SingleThreadedAgentRuntime)) == before


APPLICATION = """
    import asyncio, atexit, gc, logging, os, signal, sys, threading
    import instrumentation
    from autogen_apps import Ask, Asked, ask_runtime
    from autogen_core import AgentId

    async def work(n=1):
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        with instrumentation.tenant("acme"):
            for _ in range(n):
                await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()
"""

STRANGE_PLACES = {
    "atexit, before and after ours": """
        atexit.register(lambda: (asyncio.run(work()), instrumentation.stop(0.2), print("last")))
        instrumentation.start()
        asyncio.run(work())
        atexit.register(lambda: (asyncio.run(work()), instrumentation.stop(0.2), print("first")))
        # first, last
    """,
    "__del__, at the end of the interpreter": """
        class Late:
            def __init__(self):
                self.tenant, self.stop, self.start, self.flush = (
                    instrumentation.tenant("acme"), instrumentation.stop, instrumentation.start, instrumentation.flush)
            def __del__(self):
                with self.tenant:
                    self.flush(0.1); self.stop(0.1); self.start(); self.stop(0.1)
                print("deleted")
        instrumentation.start()
        asyncio.run(work())
        sys.modules["__main__"].late = Late()
        # deleted
    """,
    "a signal handler, in the middle of start and stop": """
        import itertools
        ticks = itertools.count()
        def on_alarm(*_):
            next(ticks)
            instrumentation.start(); instrumentation.flush(0); instrumentation.stop(0)
            with instrumentation.tenant("signal" + str(next(ticks))):
                pass
            # Not by a period, and by its own time: on a busy machine the program would stand still.
            signal.setitimer(signal.ITIMER_PROF, 0.007)
        signal.signal(signal.SIGPROF, on_alarm)
        signal.setitimer(signal.ITIMER_PROF, 0.007)
        for n in range(30):
            instrumentation.start(); asyncio.run(work()); instrumentation.stop(0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        instrumentation.stop(0.2)
        from autogen_core import SingleThreadedAgentRuntime
        print(next(ticks) > 10, "_tracer_helper" in vars(SingleThreadedAgentRuntime))
        # True False
    """,
    "a logging handler that uses everything": """
        class Uses(logging.Handler):
            def emit(self, record):
                with instrumentation.tenant("logging"):
                    instrumentation.current_tenant(); instrumentation.flush(0)
        logging.getLogger().addHandler(Uses())
        logging.getLogger().setLevel(logging.DEBUG)
        instrumentation.start()
        asyncio.run(work(3))
        instrumentation.stop(0.2)
        print("logged")
        # logged
    """,
    "a thread without a loop, and after the main thread": """
        def later():
            threading.main_thread().join()
            with instrumentation.tenant("acme"):
                asyncio.run(work())
            instrumentation.flush(0.1); instrumentation.stop(0.1)
            print("after main")
        instrumentation.start()
        threading.Thread(target=later).start()
        # after main
    """,
    "no standard error at all": """
        sys.stderr = None
        instrumentation.start()
        asyncio.run(work())
        instrumentation.stop(0.2)
        print("quiet")
        # quiet
    """,
    "a standard error that raises": """
        class Broken:
            def write(self, text):
                raise RuntimeError("reentrant call")
            flush = write
        kept, sys.stderr = sys.stderr, Broken()
        instrumentation.start()
        asyncio.run(work())
        instrumentation.stop(0.2)
        sys.stderr = kept
        print("survived")
        # survived
    """,
    "os._exit": """
        instrumentation.start()
        asyncio.run(work())
        print("gone", flush=True)
        os._exit(0)
        # gone
    """,
}


@pytest.mark.parametrize("code", STRANGE_PLACES.values(), ids=STRANGE_PLACES.keys())
def test_from_strange_places(code: str) -> None:
    """The process says what it would say without us, raises nothing and ends."""
    expected = code.rstrip().rsplit("# ", 1)[1].split(", ")
    ran = run_python(APPLICATION, code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == expected, ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("how", ["sys.exit(7)", "raise KeyboardInterrupt"])
def test_a_signal_handler_that_raises_ends_the_application(how: str) -> None:
    """What it raises inside a hook of ours is not swallowed: SIGTERM and Ctrl-C end the process the first time."""
    ran = run_python(
        APPLICATION,
        f"""
        from instrumentation.hooks import runtime
        real = runtime.name_of
        def interrupted(text):  # the signal arrives in the middle of our hook
            signal.raise_signal(signal.SIGTERM)
            return real(text)
        def on_term(*_):
            {how}
        runtime.name_of = interrupted
        signal.signal(signal.SIGTERM, on_term)
        instrumentation.start()
        asyncio.run(work())
        print("went on")
        """,
    )
    assert "went on" not in ran.stdout
    assert ran.returncode == (7 if "exit" in how else -2 if ran.returncode < 0 else 130), ran.stderr
