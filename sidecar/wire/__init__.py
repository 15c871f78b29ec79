"""What clients may rely on: the watchdog's protocol, the cell's layout, how a process is told from a later one.

Both halves import it; it imports nothing of ours.
"""
