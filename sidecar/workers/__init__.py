"""Redaction on several cores: worker processes that each run the kernel, behind the one process that owns the port.

`Workers.kernel` makes a `Kernel` that is none of this process's: a request goes to a worker over a socket pair, and
what may leave comes back. Who calls it waits, without the interpreter's lock.

    pool.py      the workers, their replacement, and whose turn it is
    member.py    one worker as its parent sees it: a process, a socket, a deadline
    process.py   the worker itself
    messages.py  what they say to each other

This package imports nothing of it: a worker is a process of its own, and has no need of what its parent has.

Why so: `docs/decisions/0015-kernel-and-workers.md`.
"""
