"""The way in: OTLP over gRPC as raw bytes, answered only when the next stage has taken or refused them."""

from .admission import Admission, Busy, Consumer, Hand, Malformed
from .certificate import Certificate
from .hands import Hands
from .http_server import HttpIntake
from .server import Intake, refuse_unsafe_grpc
from .turns import PULSE_SECONDS

__all__ = [
    "PULSE_SECONDS",
    "Admission",
    "Busy",
    "Certificate",
    "Consumer",
    "Hand",
    "Hands",
    "HttpIntake",
    "Intake",
    "Malformed",
    "refuse_unsafe_grpc",
]
