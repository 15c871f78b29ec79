"""What a terminal shows of a sidecar: read its status, see how fast things grow, draw tenants and stalls.

`tenantscope demo` and `tenantscope top` are made of these pieces. What they refuse: to trust the status. It comes over
a socket that anything may answer on, so text is escaped, numbers are checked, and what does not fit is counted.
"""
