"""The way out as a whole: one queue on disk, and for each destination an outlet and a forwarder of its own.

No destination waits for another one. What it refuses: to start with a destination that cannot be made, and to let go of
the queue while a forwarder still works on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sidecar.configuration.ownership import private_folder
from sidecar.ledger import Ledger
from sidecar.pulse import Pulses

from .batch import Batch, Destination
from .batch_queue import KEY, MAX_BYTES, BatchQueue, Way
from .dead_letters import FOLDER_NAME, DeadLetters
from .forwarder import PULSE_SECONDS, Forwarder


@dataclass(frozen=True, slots=True)
class Exit:
    """A destination to be made.

    Attributes:
        way: how the queue serves it. make: the destination; called once the queue's folder is ours.
    """

    way: Way
    make: Callable[[], Destination]


class Delivery:
    """Takes batches until `stop`, and hands each to every destination.

    Args:
        ledger: has an account for each destination.
        exits: one at least.
        max_bytes: of the queue.
        pulses: has a part for each forwarder.

    Attributes:
        queue: on disk.

    Raises:
        ConfigurationError: the state folder cannot be had, or a destination not be made.
    """

    def __init__(
        self,
        state_dir: Path,
        ledger: Ledger,
        exits: Sequence[Exit],
        max_bytes: int = MAX_BYTES,
        pulses: Pulses | None = None,
    ) -> None:
        self.queue = BatchQueue(state_dir, ledger, max_bytes, ways=[leaving.way for leaving in exits])
        self._forwarders: dict[str, Forwarder] = {}
        pulses = pulses or Pulses()
        try:
            for leaving in exits:
                name = leaving.way.name
                # Names of upstreams may have what names of files may not.
                folder = state_dir / FOLDER_NAME
                if len(exits) > 1:
                    folder = private_folder(folder, KEY) / quote(name, safe=":")
                letters = DeadLetters(folder, ledger.account(name))
                self._forwarders[name] = Forwarder(
                    name,
                    self.queue.outlets[name],
                    leaving.make(),
                    ledger.account(name),
                    letters,
                    pulse=pulses.part(f"forwarder {name}", PULSE_SECONDS),
                )
        except BaseException:
            self.stop(0)
            raise

    def start(self) -> None:
        """Begin to deliver; to be called once."""
        for forwarder in self._forwarders.values():
            forwarder.start()

    def offer(self, batch: Batch) -> str | None:
        """Take the batch: None when it is safe on disk, otherwise the word that says why it was not taken."""
        return self.queue.offer(batch)

    @property
    def ready(self) -> Mapping[str, bool]:
        """By destination: whether it took what it was last given, or answered when it was last probed."""
        return {name: forwarder.ready for name, forwarder in self._forwarders.items()}

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait until every destination has answered, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        return all(
            forwarder.wait_until_ready(max(0.0, deadline - time.monotonic())) for forwarder in self._forwarders.values()
        )

    def stop(self, grace: float) -> None:
        """Refuse new batches, deliver for `grace` seconds, leave the rest on disk and let go of it. Idempotent."""
        deadline = time.monotonic() + grace
        self.queue.close()
        ended = [forwarder.stop(max(0.0, deadline - time.monotonic())) for forwarder in self._forwarders.values()]
        if all(ended):
            self.queue.release()
