"""`tenantscope console`: one web page on what a sidecar knows, for those who have no Grafana.

A process of its own (or a thread of the demo's) asks the sidecar's admin listener and remembers a quarter of an hour.
What it refuses: other machines, other web pages, anybody without its token or a client's, and to change anything.
"""
