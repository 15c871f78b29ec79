"""The way in: OTLP over gRPC as raw bytes, answered only when the next stage has taken or refused them."""

from .admission import Admission, Busy, Consumer, Malformed
from .certificate import Certificate
from .server import Intake, refuse_unsafe_grpc

__all__ = ["Admission", "Busy", "Certificate", "Consumer", "Intake", "Malformed", "refuse_unsafe_grpc"]
