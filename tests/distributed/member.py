"""Run as a process of its own: the host of a distributed runtime, or one of its workers.

    python member.py host ADDRESS
    python member.py worker ADDRESS NAME [DEEPER]

It says `ready` (a host: its port) on its output when it is. A worker has an agent NAME, which asks DEEPER first. Each
line of its input is one thing to do, as JSON: {"tenant", "to", "text"} to ask, {"hear": N} to wait for N events,
{"give_up": true} to wait for no answer any more, {"connect": ADDRESS} to leave the host for another; what came of it is
a line of its output. `die` in a text ends the process in the middle of the call. The end of the input ends a member.
Watched, and by whom it is believed, is the environment's to say. Not a test.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from autogen_apps import Ask
from autogen_core import AgentId
from grid import Desk, eventually, hosting, working

import instrumentation


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def dies(text: str) -> None:
    if "die" in text:
        print("dying", flush=True)
        os._exit(3)


async def do(worker: Any, job: dict[str, Any]) -> None:
    try:
        with instrumentation.tenant(job["tenant"]):
            answer = await worker.send_message(Ask(job["text"]), AgentId(job["to"], job["tenant"]))
        print(json.dumps({"answer": answer.text, "tenant": answer.tenant}), flush=True)
    except BaseException as error:
        print(json.dumps({"error": type(error).__name__}), flush=True)


async def host(address: str) -> None:
    async with hosting(address) as bound:
        print("ready", bound, flush=True)
        await (await lines()).read()


async def worker(address: str, name: str, deeper: str | None = None) -> None:
    heard: list[tuple[str, str | None]] = []
    below = None if deeper is None else AgentId(deeper, "k")
    jobs: set[asyncio.Task[None]] = set()
    reader = await lines()

    async def connected(address: str) -> str:
        """Work until another host is named; empty at the end of the input."""
        async with working(address, started_as="starter", **{name: lambda: Desk(below, dies, heard)}) as runtime:
            print("ready", flush=True)
            while line := await reader.readline():
                job = json.loads(line)
                if "connect" in job:
                    return str(job["connect"])
                if "hear" in job:
                    await eventually(lambda enough=job["hear"]: len(heard) >= enough)
                    print(json.dumps({"heard": heard}), flush=True)
                elif "give_up" in job:
                    for task in jobs:
                        task.cancel()
                else:
                    jobs.add(asyncio.create_task(do(runtime, job)))
            return ""

    while address:
        address = await connected(address)


if __name__ == "__main__":
    if os.environ.get("WATCHED") != "no":
        instrumentation.start(service_name=sys.argv[1])
    try:
        asyncio.run({"host": host, "worker": worker}[sys.argv[1]](*sys.argv[2:]))
    finally:
        instrumentation.flush(30)
        instrumentation.stop(30)
