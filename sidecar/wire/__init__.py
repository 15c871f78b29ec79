"""What clients may rely on: the watchdog's protocol, the layouts of cell and stacks file, how to tell processes apart.

Both halves import it; it imports nothing of ours.
"""

from typing import Final

#: Key in the initial metadata of `Watch`: the application knows by it that it is connected.
CONNECTED: Final = "tenantscope-watchdog"
#: Beside it: how long a slice may last, in nanoseconds, as a decimal number.
STALL_NS: Final = "tenantscope-stall-ns"
