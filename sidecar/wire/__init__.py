"""What clients may rely on: the watchdog's protocol, the layouts of cell and stacks file, how to tell processes apart,
how a thread's stack is read from its process's memory.

Both halves import it; it imports nothing of ours.
"""

from typing import Final

#: Key in the initial metadata of `Watch`: the application knows by it that it is connected.
CONNECTED: Final = "tenantscope-watchdog"
