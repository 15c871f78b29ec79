"""The README's Python is executed, as it stands there."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from autogen_apps import two_agent_team

import instrumentation

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def lookup() -> str:
    """A tool."""
    return "found"


def as_coroutine(source: str, names: dict[str, Any]) -> Any:
    """A block with `await` in it, as the body of a coroutine function."""
    body = "".join(f"    {line}\n" for line in source.splitlines())
    exec(f"async def block():\n{body}", names)
    return names["block"]


def test_the_four_lines_and_the_test_example() -> None:
    """The first block watches a team run; the second asserts what it says, about an application like it."""
    first, second = blocks("python")
    names: dict[str, Any] = {"asyncio": asyncio, "instrumentation": instrumentation, "task": "go"}

    async def my_application() -> None:
        names["team"] = two_agent_team(lookup)
        await as_coroutine(first.replace("import instrumentation\n", ""), names)()

    names["my_application"] = my_application
    exec(second, names)
    assert len(names["captured"].spans()) > 5


def test_every_command_of_the_readme_exists() -> None:
    """Targets of make, sub-commands of tenantscope."""
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    shell = "\n".join(blocks("sh"))
    assert set(re.findall(r"make ([a-z]+)", shell)) <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    ran = subprocess.run([sys.executable, "-m", "tenantscope", "--help"], capture_output=True, text=True, timeout=60)
    help_text = ran.stdout
    assert all(command in help_text for command in re.findall(r"tenantscope ([a-z]+)", shell))
