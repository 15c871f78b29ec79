"""What clients may rely on: the watchdog's protocol, the cell's layout, how a process is told from a later one.

Both halves import it; it imports nothing of ours.
"""

from typing import Final

#: Key in the initial metadata of `Watch`: the application knows by it that it is connected.
CONNECTED: Final = "tenantscope-watchdog"
