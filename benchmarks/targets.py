"""What a figure is held to: every benchmark of the watch prints its target beside what it found."""

from __future__ import annotations


def at_most(figure: float, target: float, unit: str) -> str:
    """`target 3 ms held`, or by how much it was missed."""
    missed = figure - target
    return f"target {target:g} {unit} " + ("held" if missed <= 0 else f"missed by {missed:.2g} {unit}")


def at_least(share: float, target: float) -> str:
    """The same of a share that should be large."""
    return f"target {target:.1%} " + ("held" if share >= target else f"missed by {target - share:.2%}")
