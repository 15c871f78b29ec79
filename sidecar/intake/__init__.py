"""The way in: OTLP over gRPC as raw bytes, answered only when the next stage has taken or refused them."""

from .certificate import Certificate
from .exports import Busy, Consumer, Malformed
from .server import Intake, refuse_unsafe_grpc

__all__ = ["Busy", "Certificate", "Consumer", "Intake", "Malformed", "refuse_unsafe_grpc"]
