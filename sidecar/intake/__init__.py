"""The way in: OTLP over gRPC as raw bytes, answered only when the next stage has taken or refused them."""

from .admission import Admission, Busy, Consumer, Malformed
from .certificate import Certificate
from .http_server import HttpIntake
from .server import Intake, refuse_unsafe_grpc
from .turns import PULSE_SECONDS

__all__ = [
    "PULSE_SECONDS",
    "Admission",
    "Busy",
    "Certificate",
    "Consumer",
    "HttpIntake",
    "Intake",
    "Malformed",
    "refuse_unsafe_grpc",
]
