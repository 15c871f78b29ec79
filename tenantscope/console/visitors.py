"""Who looks at the console with a client's token of his own, and what is remembered for each: nothing is shared.

A sidecar with a list of clients decides what a token may see. So each token has a connection that shows that token and
no other, and a memory that only its answers go into; both end when the sidecar refuses the token, when the visitor
leaves, and when nobody has asked for an hour. A browser gets a name for its session, which is good at this console
only, and never the token back.

What it refuses: a token where the sidecar has no list, since there any word would open everything; more visitors than
there are places; to keep a token, or its digest, anywhere but in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tenantscope.top.poller import Look, Poller
from tenantscope.view.client import Admin, NoAnswerError, StrangerError
from tenantscope.view.credential import is_token

from .memory import Memory

INTERVAL: Final = 1.0  # seconds between two looks
MOST: Final = 16  # visitors; each has a memory, and asks the sidecar once a second
SESSIONS: Final = 8  # browsers of one visitor; the oldest has to sign in again
IDLE: Final = 3600.0  # seconds without a question; a page in a hidden tab asks none
AWAY: Final = 60.0  # seconds without a question after which a place is another's, if all are taken
_SESSION_BYTES: Final = 24

WRONG: Final = "The sidecar knows no client by that token."
OPEN: Final = "This sidecar has no list of clients: open the address that the console printed."
FULL: Final = "Too many look at this console at the moment: try again in a minute."


class RefusedError(Exception):
    """The token opens nothing; the text says why, in a sentence that repeats nothing of it."""


@dataclass(frozen=True)
class View:
    """What somebody looks at: whom to ask for him, and what was remembered of the answers.

    Attributes:
        name: tells visitors apart, for a page to notice that it is another's; empty for the console's own view.
    """

    admin: Admin
    memory: Memory
    name: str = ""


@dataclass
class _Visitor:
    view: View
    seen: float
    sessions: list[bytes] = field(default_factory=list)  # digests of their names, the oldest first
    over: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


class Visitors:
    """All of them; to be used from any thread.

    Args:
        admin: the sidecar. A token that it carries itself is shown for no visitor.
        clock: seconds, monotonic.
        interval: seconds between two looks.
    """

    def __init__(self, admin: Admin, clock: Callable[[], float] = time.monotonic, interval: float = INTERVAL) -> None:
        self._admin = admin
        self._clock = clock
        self._interval = interval
        self._lock = threading.Lock()
        self._by_token: dict[bytes, _Visitor] = {}  # by digest, so that a look-up says nothing about a token
        self._by_session: dict[bytes, bytes] = {}  # the digest of a session's name, and of its token

    def sign_in(self, token: str) -> str:
        """A session's name, for a cookie. Asks the sidecar.

        Raises:
            RefusedError: the token opens nothing.
            NoAnswerError: the sidecar cannot be asked.
        """
        self.enter(token)
        session = secrets.token_urlsafe(_SESSION_BYTES)
        of_token, of_session = _digest(token), _digest(session)
        with self._lock:
            visitor = self._by_token.get(of_token)
            if visitor is None:  # refused in this moment
                raise RefusedError(WRONG)
            while len(visitor.sessions) >= SESSIONS:
                del self._by_session[visitor.sessions.pop(0)]
            visitor.sessions.append(of_session)
            self._by_session[of_session] = of_token
        return session

    def of(self, session: str) -> View | None:
        """Whose session it is; None: nobody's."""
        with self._lock:
            of_token = self._by_session.get(_digest(session))
            return None if of_token is None else self._known(of_token)

    def enter(self, token: str) -> View:
        """The view of a token. Asks the sidecar when nobody looks with it already.

        Raises:
            RefusedError: the token opens nothing.
            NoAnswerError: the sidecar cannot be asked.
        """
        of_token = _digest(token)
        with self._lock:
            view = self._known(of_token)
        if view is not None:
            return view
        if not is_token(token):
            raise RefusedError(WRONG)
        admin = self._admin.showing(token)
        poller = Poller(admin, self._clock)
        look = poller.look()
        if look.refused:
            raise RefusedError(WRONG)
        if look.error:
            raise NoAnswerError(look.error)
        self._must_be_guarded()
        view = View(admin, Memory(), secrets.token_hex(8))
        view.memory.take(look)
        with self._lock:
            known = self._known(of_token)
            if known is not None:  # twice at once
                return known
            self._make_room()
            visitor = self._by_token[of_token] = _Visitor(view, self._clock())
            visitor.over.enter_context(
                poller.following(self._interval, lambda look: self._hear(of_token, visitor, look))
            )
        return view

    def leave(self, session: str) -> None:
        """End a session; with the last one of its token, what was remembered for it."""
        with self._lock:
            of_session = _digest(session)
            of_token = self._by_session.pop(of_session, None)
            if of_token is not None:
                visitor = self._by_token[of_token]
                visitor.sessions.remove(of_session)
                if not visitor.sessions:
                    self._end(of_token)

    def close(self) -> None:
        """End all."""
        with self._lock:
            for of_token in list(self._by_token):
                self._end(of_token)

    def _known(self, of_token: bytes) -> View | None:
        visitor = self._by_token.get(of_token)
        if visitor is None:
            return None
        visitor.seen = self._clock()
        return visitor.view

    def _must_be_guarded(self) -> None:
        """Without a list of clients, the sidecar would have answered whatever was shown."""
        try:
            self._admin.showing(None).status()
        except StrangerError:
            return
        raise RefusedError(OPEN)

    def _make_room(self) -> None:
        if len(self._by_token) < MOST:
            return
        longest = min(self._by_token, key=lambda each: self._by_token[each].seen)
        if self._clock() - self._by_token[longest].seen < AWAY:
            raise RefusedError(FULL)
        self._end(longest)

    def _hear(self, of_token: bytes, visitor: _Visitor, look: Look) -> None:
        with self._lock:
            if self._by_token.get(of_token) is not visitor:
                return  # it ended while the question was on its way
            if look.refused or self._clock() - visitor.seen > IDLE:
                self._end(of_token)
            else:
                visitor.view.memory.take(look)

    def _end(self, of_token: bytes) -> None:
        visitor = self._by_token.pop(of_token)
        for each in visitor.sessions:
            del self._by_session[each]
        visitor.over.close()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
