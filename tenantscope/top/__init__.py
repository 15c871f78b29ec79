"""`tenantscope top`: a live view of who has the event loops, who waits, and what hangs, from one sidecar's status.

It only reads, so any number of people may look. What it refuses: to trust what answers (see `tenantscope.view`), to
leave a terminal changed, whichever way it ends, and to draw when nobody looks: without a terminal it prints once.
"""
