"""The redaction policy in force: its versions and their keys, how another takes its place while requests go on, and
the faces that it gives to tenants wherever people look. What a policy says and does is `sidecar.redaction`'s."""
