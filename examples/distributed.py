"""AutoGen's distributed runtime under two tenants: a host and two workers, a process each.

    python examples/distributed.py

The workers share a key, so that each believes the other of a message's tenant: `clerk` runs in another process than
whoever asks it, and still works for the asker's tenant, in the asker's trace. Without the key it would work for nobody.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autogen_core import AgentId, MessageContext, RoutedAgent, message_handler, try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

import instrumentation


@dataclass
class Question:
    text: str


@dataclass
class Answer:
    text: str


class Clerk(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("answers")

    @message_handler
    async def on_question(self, message: Question, ctx: MessageContext) -> Answer:  # noqa: ARG002
        return Answer(f"{message.text} was answered for {instrumentation.current_tenant()}")


async def host(address: str) -> None:
    served = GrpcWorkerAgentRuntimeHost(address)
    served.start()
    await asyncio.Event().wait()


async def worker(address: str) -> GrpcWorkerAgentRuntime:
    runtime = GrpcWorkerAgentRuntime(address)
    for message in (Question, Answer):
        runtime.add_message_serializer(try_get_known_serializers_for_type(message))
    await runtime.start()
    return runtime


async def clerks(address: str, ready: Path) -> None:
    runtime = await worker(address)
    await Clerk.register(runtime, "clerk", Clerk)
    await asyncio.to_thread(ready.touch)
    await asyncio.Event().wait()


async def ask(address: str) -> None:
    runtime = await worker(address)
    for tenant in ("acme", "globex"):
        with instrumentation.tenant(tenant):
            answer = await runtime.send_message(Question(f"a question of {tenant}"), AgentId("clerk", tenant))
        print(answer.text)
    await runtime.stop()


def run_host(address: str) -> None:
    asyncio.run(host(address))


def run_clerks(address: str, ready: Path) -> None:
    instrumentation.start(service_name="clerks")
    asyncio.run(clerks(address, ready))


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def main(folder: Path) -> None:
    keys = folder / "peer.keys"  # in production: a secret of the deployment
    keys.touch(mode=0o600)
    keys.write_text(secrets.token_hex(32))
    os.environ["TENANTSCOPE_PEER_KEYS_FILE"] = str(keys)

    address, ready = f"unix:{folder}/host", folder / "ready"
    spawn = multiprocessing.get_context("spawn")
    the_host = spawn.Process(target=run_host, args=(address,), daemon=True)
    the_host.start()
    wait_for(folder / "host")
    the_clerks = spawn.Process(target=run_clerks, args=(address, ready), daemon=True)
    the_clerks.start()
    wait_for(ready)

    instrumentation.start(service_name="askers")
    asyncio.run(ask(address))
    instrumentation.stop()  # before the file with the key goes, which is looked at with each export
    for process in (the_clerks, the_host):
        process.terminate()
        process.join()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
