"""The watchdog: polls the cells of applications' event loops, and says who holds one while it is held.

What it refuses: cells that are not the announcing process's own, and to trust a word in them further than its bounds.
"""

from .watchdog import PULSE_SECONDS, Watchdog

__all__ = ["PULSE_SECONDS", "Watchdog"]
