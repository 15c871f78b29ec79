"""What an operator asks the sidecar: alive, ready, metrics, status."""

from .server import Admin

__all__ = ["Admin"]
