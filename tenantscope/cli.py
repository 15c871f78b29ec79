"""What people type: `tenantscope demo`, `tenantscope sidecar`.

Exit status: 0 all is well, 1 it ran and found something wrong, 2 it was called wrongly, 130 interrupted. A
command imports what it needs when it runs, so that help is instant and a missing extra is one line, not a
traceback.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from .arguments import USAGE_ERROR, Parser, add_admin, admin, new_file, port, refuse, seconds

_MIN_INTERVAL: Final = 0.1

_SIDECAR_NEEDS: Final = ("grpc", "grpc_health", "grpc_reflection", "prometheus_client", "yaml")
_CONSOLE_NEEDS: Final = ("starlette", "uvicorn", *_SIDECAR_NEEDS)
_DEMO_NEEDS: Final = ("autogen_agentchat", "autogen_ext", "openai", "tiktoken", "rich", *_CONSOLE_NEEDS)

_TOP_NEEDS: Final = ("rich", *_SIDECAR_NEEDS)

_EXAMPLES: Final = """\
examples:
  tenantscope demo                                 five tenants, a live table, half a minute
  tenantscope demo --seconds 15 --headless --json out.json
                                                   no table; figures for a script
  tenantscope top                                  who has the loops now, who waits; q quits
  tenantscope console                              the same in a browser, with time lines and traces
  tenantscope sidecar                              the sidecar, settings from the environment
  tenantscope sidecar --help                       what can be set
  tenantscope doctor                               does telemetry get through? if not, where does it end?
  tenantscope policy explain gen_ai.tool.name      what happens to an attribute, and why
"""
_DEMO_EXAMPLES: Final = """\
Its second line is the address of a page in a browser that shows the same, and more.

examples:
  tenantscope demo                                 half a minute, a live table
  tenantscope demo --seconds 300                   long enough to look around in the browser
  tenantscope demo --headless --json out.json      plain lines, and figures for a script
  tenantscope demo --keep                          and then read what the sidecar kept

Ends with status 0 only if no planted secret leaked and every record is accounted for.
"""
_CONSOLE_EXAMPLES: Final = """\
Serves this machine only: whoever opens the address that it prints, and whoever signs in with the token of a client of
the sidecar, which shows what is that client's. Ctrl-C ends it.

examples:
  tenantscope console                              the sidecar of this machine
  tenantscope console --admin 127.0.0.1:9000 --port 0
  ssh -L 8890:127.0.0.1:8890 HOST                  then open the address that the console printed there
"""
_NEW_CLIENT_EXAMPLES: Final = """\
examples:
  tenantscope token                                one for the application, its digest for the list of clients
  tenantscope sidecar --clients-file clients.yaml  the list; docs/security.md says what stands in it

The token is printed once and kept nowhere.
"""
_TOP_EXAMPLES: Final = """\
keys: q quit, s sort by the next, p pause

examples:
  tenantscope top                                  the sidecar of this machine
  tenantscope top --sort made-wait --tenant 'acme*'
  tenantscope top --once                           one picture; also whenever the output is no terminal
  tenantscope top --json | jq '.tenants[0]'        the figures; rates are over the last interval
  ssh -L 8889:127.0.0.1:8889 HOST                  then `tenantscope top` here: it only answers on its machine

Ends with status 1 when --once found no sidecar. Colours obey NO_COLOR.
"""


_DOCTOR_EXAMPLES: Final = """\
Run it where the application runs, in its environment: it reads the same settings. It sends a few spans of its own, for
the tenant `tenantscope-doctor`.

examples:
  tenantscope doctor                               the sidecar of this machine
  tenantscope doctor --endpoint https://sidecar.example:4317 --admin 127.0.0.1:8889

Ends with status 1 at the first hop that fails.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    name, *rest = arguments
    if name.startswith("-"):
        parser.parse_args(arguments)  # --help and --version end here, anything else is an error
        return USAGE_ERROR
    command = COMMANDS.get(name)
    if command is None:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        suggestion = f"did you mean `tenantscope {close[0]}`?" if close else "see `tenantscope --help`"
        refuse(f"no command {name[:40]!a}; {suggestion}")
    return command(rest)


def demo(arguments: Sequence[str]) -> int:
    """Five tenants on one AutoGen runtime: who holds the event loop, and does anything private get out?"""
    parser = Parser(
        prog="tenantscope demo",
        description=demo.__doc__,
        epilog=_DEMO_EXAMPLES,
    )
    parser.add_argument("--seconds", type=seconds(1), default=30.0, metavar="N", help="how long it runs (default: 30)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the figures of the run to FILE")
    parser.add_argument("--headless", action="store_true", help="plain lines instead of the live table")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder: logs, plan, the sidecar's state")
    options = parser.parse_args(arguments)
    _require("demo", _DEMO_NEEDS)
    from .demo.conductor import Options, run

    return run(Options(options.seconds, options.json, options.headless, options.keep))


def sidecar(arguments: Sequence[str]) -> int:
    """The process that receives, redacts and forwards, and watches the event loops."""
    _require("sidecar", _SIDECAR_NEEDS)
    from sidecar.__main__ import main as run

    status: int = run(list(arguments), "tenantscope sidecar")
    return status


def top(arguments: Sequence[str]) -> int:
    """Who has the event loops at this moment, who waits, what hangs: a live view of one sidecar."""
    parser = Parser(
        prog="tenantscope top",
        description=top.__doc__,
        epilog=_TOP_EXAMPLES,
    )
    orders = ("share", "waited", "made-wait", "messages", "errors")
    add_admin(parser)
    parser.add_argument(
        "--interval",
        type=seconds(_MIN_INTERVAL),
        default=1.0,
        metavar="N",
        help="seconds between two looks (default: 1)",
    )
    parser.add_argument(
        "--sort", choices=orders, default="share", help="what the first tenant has most of (default: share)"
    )
    parser.add_argument("--tenant", default="*", metavar="GLOB", help="only tenants that match, such as 'acme-*'")
    parser.add_argument("--once", action="store_true", help="look for one interval, print the picture, and end")
    parser.add_argument("--json", action="store_true", help="one line of JSON each interval instead of the picture")
    options = parser.parse_args(arguments)
    _require("top", _TOP_NEEDS)
    from .top.command import Options, run
    from .top.screen import View

    asked = admin(parser, options)
    return run(Options(asked, View(options.sort, options.tenant), options.interval, options.once, options.json))


def console(arguments: Sequence[str]) -> int:
    """What `top` shows, and more, in a browser: tenants, stalls with stacks, who made whom wait, alerts, traces."""
    parser = Parser(
        prog="tenantscope console",
        description=console.__doc__,
        epilog=_CONSOLE_EXAMPLES,
    )
    add_admin(parser)
    parser.add_argument(
        "--port", type=port, default=8890, metavar="N", help="on loopback; 0 for any that is free (default: 8890)"
    )
    options = parser.parse_args(arguments)
    _require("console", _CONSOLE_NEEDS)
    from .console.server import Console
    from .view.client import NoAnswerError

    asked = admin(parser, options)
    try:
        page = Console(asked, options.port)
    except OSError as error:
        parser.error(f"argument --port: cannot listen on 127.0.0.1:{options.port}: {error.strerror}")
    print(f"tenantscope console: {page.url}", flush=True)
    try:
        asked.page("/healthz")
    except NoAnswerError as error:
        why = f"the sidecar at {options.admin} does not answer yet: {error}; the page shows it as soon as it does"
        print(f"tenantscope console: {why}", file=sys.stderr, flush=True)
    page.serve()
    return 0


def policy(arguments: Sequence[str]) -> int:
    """What may leave: check a redaction policy, explain it, test it by examples, compare two."""
    _require("sidecar", _SIDECAR_NEEDS)
    from .policy.command import main as run

    return run(arguments)


def doctor(arguments: Sequence[str]) -> int:
    """Send one message's telemetry through every hop; names the hop that fails, and what to do."""
    parser = Parser(
        prog="tenantscope doctor",
        description=doctor.__doc__,
        epilog=_DOCTOR_EXAMPLES,
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help="where applications send (default: OTEL_EXPORTER_OTLP_ENDPOINT, or here)"
    )
    add_admin(parser)
    options = parser.parse_args(arguments)
    _require("sidecar", _SIDECAR_NEEDS)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes a line of its own about a hop that fails
    from .doctor.command import run

    return run(options.endpoint, admin(parser, options))


def token(arguments: Sequence[str]) -> int:
    """A new token for a client of the sidecar, and what the clients file has of it."""
    parser = Parser(
        prog="tenantscope token",
        description=token.__doc__,
        epilog=_NEW_CLIENT_EXAMPLES,
    )
    parser.parse_args(arguments)
    _require("sidecar", _SIDECAR_NEEDS)
    from sidecar.senders.clients import new_token

    secret, digest = new_token()
    print("for the application, in its environment:")
    print(f"  OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20{secret}")
    print("for the sidecar, under `tokens` of a client in TENANTSCOPE_CLIENTS_FILE:")
    print(f"  {digest}")
    return 0


COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "demo": demo,
    "sidecar": sidecar,
    "top": top,
    "console": console,
    "policy": policy,
    "token": token,
    "doctor": doctor,
}


def _parser() -> Parser:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{run.__doc__}" for name, run in COMMANDS.items())
    parser = Parser(
        prog="tenantscope",
        usage="tenantscope [--help] [--version] COMMAND ...",
        description="Observability for applications that serve many tenants on AutoGen.\n\ncommands:\n" + commands,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"tenantscope {_version()}")
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("tenantscope")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _require(extra: str, modules: Sequence[str]) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        refuse(f"{', '.join(missing)} not installed; try: pip install '/path/to/clone[{extra}]'")
