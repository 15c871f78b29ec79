"""The way out: a bounded queue on disk, and a forwarder for each destination: upstreams, and the embedded store."""

from .batch import Batch, Destination, Refused, RetryLater
from .batch_queue import BatchQueue, Way
from .credentials import Credentials
from .dead_letters import DeadLetters
from .delivery import Delivery, Exit
from .forwarder import BACKOFF, Forwarder
from .store import EmbeddedStore
from .upstream import UpstreamOtlp
from .upstream_http import UpstreamHttp

__all__ = [
    "BACKOFF",
    "Batch",
    "BatchQueue",
    "Credentials",
    "DeadLetters",
    "Delivery",
    "Destination",
    "EmbeddedStore",
    "Exit",
    "Forwarder",
    "Refused",
    "RetryLater",
    "UpstreamHttp",
    "UpstreamOtlp",
    "Way",
]
