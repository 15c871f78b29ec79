"""What can be done about a field: the words in which plans are written and the engine reads them."""

from __future__ import annotations

from typing import Any

# Operations: plain numbers, for they are compared a dozen times a span.
FIXED, INTEGER, DROP = 0, 1, 2
# From here on the field has a length; the first three are judged by a gate, which is the operand.
ATTRIBUTE, TEXT, NAME = 3, 4, 5
ID, PART, RECORD, INTO, PACKED_FIXED, PACKED_VARINTS = 6, 7, 8, 9, 10, 11

#: (operation, bit of a field that may stand once, operand)
Step = tuple[int, int, Any]
Plan = dict[int, Step]

# What was done to a value, and why.
Action = tuple[str, str]
