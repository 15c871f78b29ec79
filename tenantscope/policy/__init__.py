"""`tenantscope policy`: check a redaction policy, explain it, test it by examples, compare two of them.

Answers come from the engine that the sidecar runs, not from a second reading of the rules.
"""
