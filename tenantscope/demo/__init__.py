"""`tenantscope demo`: five tenants on one AutoGen runtime, watched; secrets planted, and searched for.

Three processes. The *application* (`app`, `scenario`, `stage`) is what a user of tenantscope would write. The
*sidecar* is the real one. The *conductor* (`conductor`) starts both, draws what the sidecar knows (`picture`,
`screen`), plays the model (`model_server`), and listens in (`tap`, `search`) for the canaries that were
planted (`canaries`). Because the three share no loop, the table stays live while the application hangs.
"""
