"""Attaches the hooks to AutoGen and takes them off again: the only file that changes AutoGen's classes.

Everything hangs on classes and modules, nothing on instances: a runtime that was made before `attach` is observed like
one that is made later, and `detach` leaves every object as it was. Where AutoGen keeps something on the instance (its
trace helper, its list of intervention handlers), a descriptor on the class answers in its place and leaves the
instance's own value alone.

Why these seams, and what else was tried: docs/decisions/0001-how-we-hook-autogen.md. The drift test pins each of them.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import autogen_core._single_threaded_agent_runtime as runtime_module
from autogen_core import EVENT_LOGGER_NAME, ComponentBase, RoutedAgent, SingleThreadedAgentRuntime
from autogen_core._runtime_impl_helpers import SubscriptionManager
from autogen_core._telemetry import _genai as genai_module

from . import budgets, tenancy
from .diagnostics import fault
from .hooks import agents_and_tools, event_log, host, run_loop, seams, states, unread_lines, worker
from .hooks.construction import InstantiationTap
from .hooks.interception import First, TransparentHandler, quiet_about
from .hooks.methods import all_subclasses, in_place_of, is_a_method, passed_over, unbound
from .hooks.passport import Awaited, issue_passport
from .hooks.runtime import Queued, Resolver, TraceTap, look_up_agents
from .hooks.seams import Wrapper
from .hooks.tracestate import Wire
from .hooks.turn import Overran
from .hooks.waiting import Waiting
from .isolation import Isolation
from .peers import Peers
from .telemetry.recorder import Recorder

_ABSENT: Final = object()
# On a wrapped method: whose it is. The classes themselves are not remembered, for that would keep them alive.
_MARK: Final = "__tenantscope__"


class Activation:
    """One attachment. Both calls may be repeated and may come from any thread."""

    def __init__(
        self,
        recorder: Recorder,
        waiting: Waiting,
        resolver: Resolver | None = None,
        tiers: budgets.Tiers | None = None,
        overran: Overran = lambda _loop, _slot, _budget: None,
        peers: Peers | None = None,
        queued: Queued = lambda _loop, _slot, _wait_ns: None,
    ) -> None:
        self._recorder = recorder
        self._waiting = waiting
        self.isolation = Isolation(recorder)
        self._trace_tap = TraceTap(recorder, self.isolation, resolver, tiers or budgets.Tiers(None), overran, queued)
        wire, self.awaited = Wire(peers or Peers(), self.isolation), Awaited()
        # AutoGen's distributed runtime, by the modules that may be imported some day.
        self._distributed: dict[str, Callable[[Any], list[tuple[Any, str, Any]]]] = {
            worker.MODULE: worker.Worker(
                recorder, self.isolation, self._trace_tap, wire, waiting, self.awaited
            ).changes,
            host.MODULE: host.Host(recorder, wire).changes,
        }
        self._handler = TransparentHandler()
        # (owner, name, what stood in the owner's own dictionary, what we put there), in the order of attachment.
        self._changes: list[tuple[Any, str, object, object]] = []
        self._attached = False
        self._methods: dict[tuple[str, str], Wrapper] = dict(seams.METHODS)
        for name, call in seams.MODEL_CALLS.items():
            self._methods[seams.CLIENT, name] = functools.partial(call, prepare=self._attach_loaded)
        self._unloaded = self._of_other_modules()
        self._logger_class: tuple[type[logging.Logger], type[logging.Logger]] | None = None
        self._lock = threading.RLock()

    def attach(self) -> None:
        """Attach every hook. A seam that this AutoGen does not have is skipped, counted and logged."""
        with self._lock:
            if self._attached:
                return
            self._attached = True
            self._recorder.retired = False
            for seam in (
                self._attach_runtime,
                self._attach_trace_spans,
                self._attach_components,
                self._attach_subscriptions,
                self._attach_logger,
            ):
                try:
                    seam()
                except Exception as error:
                    fault("attach", error)

    def detach(self) -> None:
        """Put back what stood there before. What somebody else has put over ours since is left alone."""
        with self._lock:
            self._recorder.retired = True  # where others have wrapped ours meanwhile, it only passes on
            for owner, name, before, ours in reversed(self._changes):
                if vars(owner).get(name) is not ours:
                    continue
                try:
                    if before is _ABSENT:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, before)
                except Exception as error:
                    fault("detach", error)
            self._changes.clear()
            self._unloaded = self._of_other_modules()
            self._attached = False
            for cls in all_subclasses(ComponentBase):
                try:
                    self._unwrap_methods(cls)
                except Exception as error:
                    fault("detach.component", error)
            logger = logging.getLogger(EVENT_LOGGER_NAME)
            if self._logger_class is not None and type(logger) is self._logger_class[1]:
                logger.__class__ = self._logger_class[0]
            self._logger_class = None

    def after_fork(self) -> None:
        """In a forked child: whoever of the parent's threads was at it, is not here."""
        self._lock = threading.RLock()

    def _put(self, owner: Any, name: str, value: object) -> None:
        self._changes.append((owner, name, vars(owner).get(name, _ABSENT), value))
        setattr(owner, name, value)

    # The runtime ----------------------------------------------------------------------------------------------------
    def _attach_runtime(self) -> None:
        runtime = SingleThreadedAgentRuntime
        trace_tap, handler, dispatches = self._trace_tap, self._handler, self._waiting.dispatches
        recorder = self._recorder
        # All of them before the first change: an AutoGen that lacks one is left alone, not half changed.
        start, process_next, try_serialize = runtime.start, runtime._process_next, runtime._try_serialize
        module: Any = runtime_module  # its private globals are what we are after
        make_event, globals_ = module.MessageEvent, vars(module)
        instantiation, run_context = module.AgentInstantiationContext, module.RunContext
        stop = run_context.stop
        save_state, load_state = runtime.save_state, runtime.load_state
        save_agent, load_agent = runtime.agent_save_state, runtime.agent_load_state
        warn_if_none, _ = (
            module._warn_if_none,
            (module.get_telemetry_envelope_metadata, runtime._create_otel_attributes),
        )

        def start_unbound(self: SingleThreadedAgentRuntime) -> None:
            # The run loop inherits the context of whoever starts it; it works for no tenant.
            before, budget_before = tenancy.BOUND.get(), budgets.BOUND.get()
            tenancy.bind(None)
            budgets.bind(None)
            try:
                start(self)
            finally:
                tenancy.bind(before)
                budgets.bind(budget_before)

        async def process_next_unbound(self: SingleThreadedAgentRuntime) -> None:
            # Whoever dispatches a message is bound to its tenant meanwhile, and to his own again afterwards.
            before, budget = tenancy.BOUND.get(), budgets.BOUND.get()
            here = tenancy.BOUND.set(before)
            dispatches(self)
            if self._background_exception is not None:
                run_loop.thrown_away(recorder, self)
            try:
                await process_next(self)
            except Exception as error:
                run_loop.ended(recorder, error)
                raise
            finally:
                # The garbage collector may throw a run loop away in somebody else's context: `reset` knows.
                try:
                    tenancy.rebind(here, before)
                    budgets.bind(budget)
                except ValueError:
                    pass

        def handlers(self: SingleThreadedAgentRuntime) -> Any:
            own = vars(self).get("_intervention_handlers")
            # For the run loop alone: the application reads its own list, and may append to it.
            return First(handler, own, recorder) if own and sys._getframe(1).f_globals is globals_ else own

        self._put(runtime, "_tracer_helper", in_place_of("_tracer_helper", lambda _: trace_tap))
        self._put(runtime, "_intervention_handlers", in_place_of("_intervention_handlers", handlers))
        self._put(runtime_module, "_warn_if_none", quiet_about(handler, warn_if_none))
        self._put(runtime, "start", start_unbound)
        self._put(runtime, "_process_next", process_next_unbound)
        self._put(run_context, "stop", run_loop.stop(stop, recorder))
        self._put(runtime, "save_state", states.saved(states.of_a_runtime)(save_state, recorder))
        self._put(runtime, "load_state", states.loaded(states.of_a_runtime)(load_state, recorder))
        of_one = states.of_an_agent, states.agent_type
        self._put(runtime, "agent_save_state", states.saved(*of_one)(save_agent, recorder))
        self._put(runtime, "agent_load_state", states.loaded(*of_one)(load_agent, recorder))
        self._put(runtime, "_try_serialize", event_log.serialized_if_read(try_serialize, module))
        self._put(runtime, "_create_otel_attributes", look_up_agents)
        self._put(runtime_module, "get_telemetry_envelope_metadata", issue_passport)
        self._put(runtime_module, "MessageEvent", event_log.made_if_read(make_event))
        self._put(runtime_module, "AgentInstantiationContext", InstantiationTap(instantiation, recorder))
        for change in (*unread_lines.changes(runtime), *unread_lines.changes(RoutedAgent)):
            self._put(*change)

    # Agents and tools -----------------------------------------------------------------------------------------------
    def _attach_trace_spans(self) -> None:
        self._put(genai_module, "trace", agents_and_tools.TraceModule(self._recorder))

    # Model clients, teams, streams ----------------------------------------------------------------------------------
    def _attach_components(self) -> None:
        wrap, lock = self._wrap_methods, self._lock
        component_base: Any = ComponentBase

        def announce(cls: Any, /, **kwargs: Any) -> None:
            super(component_base, cls).__init_subclass__(**kwargs)
            with lock:
                if self._attached:
                    self._attach_loaded()
                    try:
                        wrap(cls)
                    except Exception as error:
                        fault("attach.component", error)

        self._put(ComponentBase, "__init_subclass__", classmethod(announce))
        self._attach_loaded()
        for cls in all_subclasses(ComponentBase):
            try:
                wrap(cls)
            except Exception as error:  # a class that does not let itself be changed
                fault("attach.component", error)

    def _wrap_methods(self, cls: type) -> None:
        bases = {f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__}
        for (base, name), wrapper in self._methods.items():
            method = vars(cls).get(name)
            if base in bases and is_a_method(method):
                ours: Any = passed_over(wrapper(unbound(method), self._recorder))
                ours.__wrapped__ = method
                vars(ours)[_MARK] = self
                setattr(cls, name, ours)

    def _unwrap_methods(self, cls: type) -> None:
        for _, name in self._methods:
            method: Any = vars(cls).get(name)
            if getattr(method, _MARK, None) is self:
                setattr(cls, name, method.__wrapped__)

    # What may be imported later: the providers' libraries, AutoGen's distributed runtime ------------------------------
    def _of_other_modules(self) -> list[tuple[str, Callable[[Any], bool]]]:
        """(module, what attaches to it): those that nobody has imported yet. False: it is only half imported."""
        return [
            *(
                (module, functools.partial(self._attach_method, cls, name, wrapper))
                for module, cls, name, wrapper in seams.LIBRARIES
            ),
            *((module, functools.partial(self._attach_all, what)) for module, what in self._distributed.items()),
        ]

    def _attach_loaded(self) -> None:
        """Attach to what has been imported since. Called before each model call; when a component is defined, for its
        module has imported what it needs; and when a runtime or a host of one is made. Never raises."""
        try:
            ready = [seam for seam in self._unloaded if seam[0] in sys.modules]
            if ready:
                with self._lock:
                    for seam in ready:
                        if self._attached and seam in self._unloaded and seam[1](sys.modules[seam[0]]):
                            self._unloaded.remove(seam)
        except BaseException as error:
            fault("attach.loaded", error)

    def _attach_method(self, cls: str, name: str, wrapper: Wrapper, module: Any) -> bool:
        owner = getattr(module, cls, None)
        if owner is None:
            return False  # half imported, in another thread; the next call will find it
        method = vars(owner).get(name)
        if is_a_method(method):
            self._put(owner, name, passed_over(wrapper(unbound(method), self._recorder)))
        return True

    def _attach_all(self, what: Callable[[Any], list[tuple[Any, str, Any]]], module: Any) -> bool:
        try:
            changes = what(module)  # all of them before the first is made
        except AttributeError as error:
            fault("attach.distributed", error)
            return True
        for change in changes:
            self._put(*change)
        return bool(changes)

    def _attach_subscriptions(self) -> None:
        """Every runtime, and every host of one, makes itself one of these: its module is imported by then."""
        init, attach_loaded = SubscriptionManager.__init__, self._attach_loaded

        @functools.wraps(init)
        def prepared(self: SubscriptionManager) -> None:
            attach_loaded()
            init(self)

        self._put(SubscriptionManager, "__init__", prepared)

    # The event logger -----------------------------------------------------------------------------------------------
    def _attach_logger(self) -> None:
        logger = logging.getLogger(EVENT_LOGGER_NAME)
        original = type(logger)
        ours = event_log.tapped(original, self._recorder)
        self._logger_class = (original, ours)
        logger.__class__ = ours
