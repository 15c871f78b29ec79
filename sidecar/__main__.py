"""`python -m sidecar`: reads the settings, starts the sidecar, stops it on SIGTERM or SIGINT; SIGHUP makes it
read the policy and its keys, the clients and the limits again.

Exit codes: 0 after a stop in good order, 2 for a configuration that is wrong (one line per error on standard
error). A second signal during the grace period ends the process at once.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import structlog

from . import log as logging
from . import memory
from .alerts import printable
from .configuration.settings import ConfigurationError, Settings
from .configuration.table import SETTINGS

_EXAMPLES: Final = """\
examples:
  look around, nothing else needed        {program}
  forward to a Collector                  {program} --upstream http://127.0.0.1:14317
  forward to another machine              {program} --upstream https://collector.example:4317 \\
                                            --upstream-headers-file /run/secrets/headers
  take telemetry on a Unix socket         {program} --listen unix:/run/user/1000/tenantscope/otlp.sock
  check a policy and the settings         {program} --policy policy.yaml --check

Every option is also a variable of the environment, such as TENANTSCOPE_LISTEN; the option wins.
"""

MAX_LINE: Final = 1000
FILES: Final = 8192

log = structlog.get_logger("sidecar")


def main(arguments: Sequence[str] | None = None, program: str = "python -m sidecar") -> int:
    """Run a sidecar until it is told to stop; the exit code."""
    options = _parser(program).parse_args(arguments)
    logging.configure()
    # gRPC's core writes past our log, and quotes what peers say when they hang up. It reads this when it is
    # imported, which is why the service is imported later.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    environment = dict(os.environ)
    for setting in SETTINGS:
        given = getattr(options, setting.field)
        if given is not None:
            environment[setting.key] = given
    try:
        settings = Settings.from_environment(environment)
        if options.check:
            from .check import check

            print(*(printable(line, MAX_LINE) for line in check(settings)), sep="\n")
            print("the settings and the policy are valid")
            return 0
        return _run(settings)
    except ConfigurationError as error:
        for line in error.lines:
            print(f"{program}: {printable(line, MAX_LINE)}", file=sys.stderr)
        return 2


def _run(settings: Settings) -> int:
    # Blocked before the first thread exists, for threads inherit it: so the signals wait for `sigwait`, and
    # no handler ever runs in the middle of something.
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    memory.configure(several=settings.workers > 0)
    from .check import kept_in_memory_warning
    from .service import GRACE_SECONDS, Sidecar

    # The soft limit is for programs that use `select`.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard)
        )
    sidecar = Sidecar(settings)
    sidecar.start()
    if in_memory := kept_in_memory_warning(settings.state_dir):
        log.warning(in_memory)
    log.info(
        "sidecar ready",
        listen=sidecar.listen_address.target,
        listen_http=None if sidecar.http_address is None else sidecar.http_address.target,
        admin=sidecar.admin_address.url,
        destination=",".join(sidecar.destinations),
        state_dir=settings.state_dir,
        policy=settings.policy,
        policy_digest=sidecar.policy.digest,
        pid=os.getpid(),
        package=Path(__file__).parent,
        **({} if sidecar.metrics_address is None else {"metrics": sidecar.metrics_address.url}),
    )
    while (received := signal.sigwait(signals)) == signal.SIGHUP:
        sidecar.reload()
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    log.info("sidecar stops", signal=signal.Signals(received).name, grace_seconds=GRACE_SECONDS)
    sidecar.stop(GRACE_SECONDS)
    queued = sum(counts["queued"] for counts in sidecar.ledger.records().values())
    log.info("sidecar stopped", queued_records=queued)
    return 0


class _Parser(argparse.ArgumentParser):
    """A mistake is one line, as for settings."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message, MAX_LINE)}; see `{self.prog} --help`\n")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Takes OTLP from applications, redacts it, hands it on; watches their event loops.",
        epilog=_EXAMPLES.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for setting in SETTINGS:
        default = f" (default {setting.default})" if setting.default else ""
        flag, metavar = setting.field.replace("_", "-"), setting.field.rsplit("_", 1)[-1].upper()
        parser.add_argument(f"--{flag}", metavar=metavar, help=setting.description + default)
    parser.add_argument("--check", action="store_true", help="say what would be done, or what is wrong; start nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
