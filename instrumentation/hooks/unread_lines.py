"""AutoGen's own log: its lines are put together whether anybody reads them or not, out of whole messages.

`logger.info(f"Publishing message ... {content}")` has written a message out as text before `info` sees that the logger
is off, once for every message, and once more for every message that another process sends. Nothing around the call can
prevent that, so the method is made once more from its own source, with the question whether anybody reads the logger in
front of the line. It keeps its place in AutoGen's file, line for line; where somebody reads, it does what it did.

What it refuses: to change a method unless compiling its source gives exactly what runs. Without source, or with another
than was imported, it stays as it is, and the line costs what it costs.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Final

from .event_log import reaches_somebody

#: The methods that do it, by the class of AutoGen's that has them.
METHODS: Final = {
    "SingleThreadedAgentRuntime": (
        "send_message", "publish_message", "_process_send", "_process_publish", "_process_response",
    ),
    "RoutedAgent": ("on_unhandled_message",),
    "HostConnection": ("_connect", "send"),
    "ChannelConnection": ("_receive_messages",),
    "GrpcWorkerAgentRuntimeHostServicer": ("_receive_message", "_receive_control_message"),
}  # fmt: skip


class _Read:
    """`logger in _Read()`: somebody reads it, as far as INFO goes."""

    def __contains__(self, logger: object) -> bool:
        return reaches_somebody(logger)


_READ: Final = _Read()
# The compiler takes no such constant: it is put in the place of this one.
_FOR_READ: Final = "tenantscope: the loggers that somebody reads"
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class _Asking(ast.NodeTransformer):
    """`logger.info(f"...")` becomes `if logger in _READ: logger.info(f"...")`, in the same line."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        match node.value:
            case ast.Call(ast.Attribute(ast.Name("logger") as logger, "info"), [ast.JoinedStr()]):
                asked = ast.Compare(left=logger, ops=[ast.In()], comparators=[ast.Constant(_FOR_READ)])
                return ast.fix_missing_locations(ast.copy_location(ast.If(test=asked, body=[node], orelse=[]), node))
        return node


def changes(cls: type) -> list[tuple[type, str, Any]]:
    """(owner, name, what is to stand there) for a class that has such methods, without those that stay as they are."""
    try:
        return [(cls, name, method) for name, method in _asking_first(cls)]
    except Exception:  # there is no source, or none that is to be understood
        return []


def _asking_first(cls: type) -> Iterator[tuple[str, Any]]:
    names = METHODS[cls.__name__]
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    # What a method is compiled to depends on what its module imports, and on no other definition in there.
    (body,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    tree.body = [node for node in tree.body if not isinstance(node, _Definition) or node is body]
    body.body = [node for node in body.body if isinstance(node, _Definition) and node.name in names]
    as_it_runs = _compiled(tree, cls)
    asking = _compiled(_Asking().visit(tree), cls)
    for name in names:
        method = vars(cls).get(name)
        function = method.__func__ if isinstance(method, staticmethod) else method
        if isinstance(function, FunctionType) and function.__code__ == as_it_runs.get(name):
            ours = _with_code(function, _reading(asking[name]))
            yield name, staticmethod(ours) if isinstance(method, staticmethod) else ours


def _compiled(tree: ast.Module, cls: type) -> dict[str, CodeType]:
    """The methods of the one class in `tree`, by name, as its module was compiled."""
    module = compile(tree, inspect.getfile(cls), "exec", dont_inherit=True)
    (inside,) = (some for some in module.co_consts if isinstance(some, CodeType))
    return {some.co_name: some for some in inside.co_consts if isinstance(some, CodeType)}


def _with_code(function: FunctionType, code: CodeType) -> FunctionType:
    ours = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    ours.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(ours, function)
    return ours


def _reading(code: CodeType) -> CodeType:
    """The same with `_READ` in its place, also in the functions within."""
    constants = tuple(
        _reading(some) if isinstance(some, CodeType) else _READ if some == _FOR_READ else some
        for some in code.co_consts
    )
    return code.replace(co_consts=constants)
