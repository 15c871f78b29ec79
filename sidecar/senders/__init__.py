"""Who may send to this sidecar, for which tenants and how much, and who is refused at the moment for having sent more.

Why so: `docs/decisions/0014-identity-and-fairness.md`.
"""
