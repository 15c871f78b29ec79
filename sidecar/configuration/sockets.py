"""What the sidecar listens on: TCP addresses, and Unix sockets in folders that are ours alone.

A Unix socket shows no credentials that we ask for: who may reach it is for its folder (0700) to say. The socket that a
dead process left behind is replaced.

What it refuses: a folder that others may enter, and a path at which something else is, or another process listens.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from sidecar.network.address import Address

from .ownership import private_folder
from .settings import ConfigurationError

_ABOUT_ONE: Final = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENONET,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
    }
)  # fmt: skip


def listen(address: Address, key: str, backlog: int) -> tuple[socket.socket, Address]:
    """A socket that listens, and where: with the real port. `leave` it in the end.

    Args:
        key: the setting that named the address.

    Raises:
        ConfigurationError: it cannot be had.
    """
    if address.path is not None:
        claim(address.path, key)
        place: tuple[str, int] | str = str(address.path)
        family = socket.AF_UNIX
    else:
        host = {"localhost": "127.0.0.1"}.get(address.host, address.host)
        place = (host, address.port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address.path is None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        if address.path is not None:
            address.path.chmod(0o600)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"{key}: cannot listen on {address.target}: {error.strerror}") from None
    return listening, address if address.path is not None else Address(address.host, listening.getsockname()[1])


def is_about_one(error: OSError) -> bool:
    """Whether something went wrong with one connection before it was taken, see accept(2). If not, and there was no
    stop, the machine is short of something that others may give back: to try again at once would take a core."""
    return error.errno in _ABOUT_ONE


def leave(address: Address) -> None:
    """Nobody listens there any more; idempotent."""
    if address.path is not None:
        address.path.unlink(missing_ok=True)


def claim(path: Path, key: str) -> None:
    """Make the folder of a Unix socket, and room at its path. Raises as `listen`."""
    private_folder(path.parent, key)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigurationError(f"{key}: {str(path)!r} exists and is not a socket of ours")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise ConfigurationError(f"{key}: another process listens on {str(path)!r}")
