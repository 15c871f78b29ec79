"""What an operator asks the sidecar: alive, ready, metrics, status."""

from .server import Admin, Figures

__all__ = ["Admin", "Figures"]
