"""The way out: a bounded queue, one forwarder, and a destination: the upstream or the embedded store."""

from .batch import Batch, Destination, Refused, RetryLater
from .batch_queue import BatchQueue
from .credentials import Credentials
from .dead_letters import DeadLetters
from .forwarder import BACKOFF, Forwarder
from .store import EmbeddedStore
from .upstream import UpstreamOtlp

__all__ = [
    "BACKOFF",
    "Batch",
    "BatchQueue",
    "Credentials",
    "DeadLetters",
    "Destination",
    "EmbeddedStore",
    "Forwarder",
    "Refused",
    "RetryLater",
    "UpstreamOtlp",
]
