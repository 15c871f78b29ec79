"""What is set: read from the environment and from the files that it names, checked, and read again when they change.

    settings.py     all of it at once, frozen
    table.py        what can be set, and what each value may be
    upstreams.py    where telemetry goes, from a few keys or from a file
    strict_yaml.py  how files of ours are read
    pem.py          how certificates and their keys are
    ownership.py    folders and files that are for the sidecar alone
    renewal.py      what is read again while it runs

Every mistake is a line that names its setting and repeats no secret.
"""
