"""`import instrumentation.auto` as the first line of an application: `start()` with settings from the environment."""

from .lifecycle import start

start()
