"""The sidecar: takes OTLP from applications, redacts it, hands it on, and watches their event loops.

A process of its own, started with `python -m sidecar`; `service.Sidecar` is the same inside another program.
"""
