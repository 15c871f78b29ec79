"""What the commands' arguments have in common: how a mistake is told, which values are right, how a sidecar is named.

A mistake ends the command with status 2 and one line: what is wrong, and where to read on. What was typed is shown
escaped, so that it cannot write to the terminal.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:  # needs the extra `sidecar`
    from .view.client import Admin

USAGE_ERROR: Final = 2
_MAX_SECONDS: Final = 24 * 3600


class Parser(argparse.ArgumentParser):
    """Of one command: help keeps its lines, options are written out, a mistake is one line."""

    def __init__(self, **about: Any) -> None:
        about.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        about.setdefault("allow_abbrev", False)  # they would break when options are added
        super().__init__(**about)

    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
        self.exit(USAGE_ERROR, f"{self.prog}: {shown}; see `{self.prog} --help`\n")


def refuse(why: str) -> NoReturn:
    """The same for what is wrong with no argument."""
    print(f"tenantscope: {why}", file=sys.stderr)
    raise SystemExit(USAGE_ERROR)


def seconds(least: float) -> Callable[[str], float]:
    """A number of seconds, from `least` to a day."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= _MAX_SECONDS:
            raise argparse.ArgumentTypeError(f"must be a number of seconds from {least:g} to {_MAX_SECONDS}")
        return found

    return read


def port(text: str) -> int:
    """A TCP port; 0 for any."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)


def new_file(text: str) -> Path:
    """A file that can be written; found out now, not after the run."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def add_admin(parser: argparse.ArgumentParser) -> None:
    """The options that name a sidecar, for `admin` to read."""
    address = os.environ.get("TENANTSCOPE_ADMIN") or "127.0.0.1:8889"
    parser.add_argument(
        "--admin", default=address, metavar="URL", help=f"the sidecar's admin listener (default: {address})"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a client's token, if the sidecar has a list of them (default: the one in OTEL_EXPORTER_OTLP_HEADERS)",
    )


def admin(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Admin:
    """The sidecar that the options name; a mistake in them ends the command."""
    from .view.client import Admin
    from .view.credential import find_token

    try:
        token = find_token(options.token_file, os.environ)
    except ValueError as error:
        parser.error(f"argument --token-file: {error}")
    try:
        return Admin(options.admin, token=token)
    except ValueError as error:
        parser.error(f"argument --admin: {error}")
