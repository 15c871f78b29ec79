"""How much room a client may take that is one of several: as much as it leaves.

A client that speaks for some tenants is somebody among others, and what it opens and announces lasts for as long as it
likes. One that speaks for all is the operator's, and without a list of clients nobody knows who is who: they may take
all.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.senders.clients import Client


def party_of(client: Client) -> str:
    """The client by name, if it must leave room for others; empty otherwise."""
    return "" if client.tenants is None else client.name


def leaves_room(party: str, inside: Sequence[str], most: int) -> bool:
    """Whether one more of a party may come in, beside those of the parties inside."""
    free = most - len(inside)
    return free > 0 and (not party or inside.count(party) < free)
