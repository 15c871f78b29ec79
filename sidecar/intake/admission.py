"""The way in, one for all protocols: who sends, whether it is its turn, and what becomes of the request.

    client = admission.identify(authorizations, certificate_names)    # Unknown: nothing of the body is read
    with admission.turn(client, peer, cut) as turn:                   # Busy: still nothing of it is read
        body = ...                                                    # the protocol's own
        turn.read()
        dropped = admission.take(signal, body, client, turn)          # Malformed, Busy

A protocol turns the verdicts into its own statuses, and adds nothing to them.
What it refuses: callers who are no clients, and requests for which there is no room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from sidecar.conventions import Signal
from sidecar.senders.clients import ANYBODY, Client, Clients
from sidecar.senders.quotas import Quotas

from .hands import Hands
from .turns import Crowded, Turn, Turns

_T = TypeVar("_T")


class Hand(Protocol):
    """What computes."""

    def __call__(self, work: Callable[[], _T], /) -> _T:
        """What `work` returns; waits for it. Raises what that raises."""


# The next stage: takes a request's bytes, who sent them, and a hand that computes for it, but does not wait for it;
# returns how many of the request's records were not taken.
Consumer = Callable[[Signal, bytes, Client, Hand], int]

CROWDED_SECONDS: Final = 1.0


class Malformed(Exception):  # noqa: N818  # a verdict, not an error
    """The request is not OTLP, or asks for too much. Carries no text of it on purpose.

    Attributes:
        reason: one of a fixed set of words, for the count.
    """

    def __init__(self, reason: str = "wire") -> None:
        super().__init__()
        self.reason = reason


class Busy(Exception):  # noqa: N818  # a verdict, not an error
    """Nothing can be taken now.

    Attributes:
        retry_after: seconds after which the sender should try again; exporters drop at once when it is long.
        reason: one of a fixed set of words, for the count.
    """

    def __init__(self, retry_after: float, reason: str = "full") -> None:
        super().__init__()
        self.retry_after = retry_after
        self.reason = reason


class Admission:
    """Lets requests in.

    Args:
        clients: who may send.
        consume: the next stage; see `take` for what it may raise.
        turns: shares the places. hands: shares the processors that redact.
        quotas: knows who has sent too much. What is in a request, the next stage tells it.
    """

    def __init__(
        self,
        clients: Clients,
        consume: Consumer,
        turns: Turns | None = None,
        quotas: Quotas | None = None,
        hands: Hands | None = None,
    ) -> None:
        self._clients = clients
        self._consume = consume
        self._quotas = quotas or Quotas()
        self.turns = turns or Turns()
        self._hands = hands or Hands()

    def identify(self, authorizations: Sequence[str], certificate_names: Sequence[str] = ()) -> Client:
        """Who shows this; as `Clients.identify`.

        Raises:
            Unknown: nobody who may send.
        """
        return self._clients.identify(authorizations, certificate_names)

    def turn(self, client: Client, peer: str, cut: Callable[[], object]) -> Turn:
        """Wait for a place to work on a request of this client; to be left by `with`.

        Args:
            peer: the connection that it comes from: whoever nobody knows is told apart by it.
            cut: ends the request; called when its body trickles in while others wait.

        Raises:
            Busy: there is none, or the client is over its quota.
        """
        wait = self._quotas.wait(client)
        if wait:
            raise Busy(wait, "quota")
        sender = f"peer {peer}" if client is ANYBODY else client.name
        try:
            return self.turns.take(sender, cut)
        except Crowded:
            raise Busy(CROWDED_SECONDS, "crowded") from None

    def take(self, signal: Signal, payload: bytes, client: Client, turn: Turn) -> int:
        """Hand a request to the next stage; how many of its records it dropped.

        Raises:
            Malformed: it is not OTLP.
            Busy: nothing can be taken now.
        """
        self._quotas.pay(client, 0, len(payload))
        return self._consume(signal, payload, client, partial(self._hands.do, turn.sender))
