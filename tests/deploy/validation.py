"""How the validator is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

#: Arguments of the validator, and what it is given on its standard input.
Validate = Callable[..., subprocess.CompletedProcess[str]]
