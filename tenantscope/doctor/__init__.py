"""`tenantscope doctor`: one message from an AutoGen runtime to where telemetry ends, and which hop it fails at.

`hops` are the questions, in the order of the way; `command` asks them and shows the answers.
"""
