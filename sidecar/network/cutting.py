"""How a connection is ended while another thread works on it."""

from __future__ import annotations

import contextlib
import socket


def cut(connection: socket.socket) -> None:
    """End a connection: the thread that works on it wakes up, and closes it.

    Not by `SSLSocket.shutdown`, which takes TLS off before it ends anything: a thread that is sending meanwhile would
    go on in the clear.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
