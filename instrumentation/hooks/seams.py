"""Which methods of which classes are observed, and by whom: the tables that `activation.py` attaches.

The runtime, AutoGen's own spans and its event logger are no methods of components, and not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from instrumentation.activity import Kind
from instrumentation.telemetry.recorder import Recorder

from . import calls, mcp, memory, model_client, providers, states, team, termination, turns_of_agents, workbench

Wrapper = Callable[[Callable[..., Any], Recorder], Callable[..., Any]]
CLIENT: Final = "autogen_core.models._model_client.ChatCompletionClient"

_TEAM: Final = "autogen_agentchat.teams._group_chat._base_group_chat.BaseGroupChat"
_WORKBENCH: Final = "autogen_core.tools._workbench.Workbench"
_AGENT: Final = "autogen_agentchat.agents._base_chat_agent.BaseChatAgent"
#: Methods of component classes, by the qualified name of the class that declares them. Every subclass that defines the
#: method itself is wrapped, whenever it is defined; by name, for AgentChat need not be installed.
METHODS: Final[Mapping[tuple[str, str], Wrapper]] = {
    (_TEAM, "run_stream"): team.run_stream,
    (_TEAM, "pause"): calls.observed_call(Kind.PAUSE, calls.class_name),
    (_TEAM, "resume"): calls.observed_call(Kind.RESUME, calls.class_name),
    (_TEAM, "reset"): calls.observed_call(Kind.RESET, calls.class_name),
    (_TEAM, "save_state"): states.saved(states.of_a_team),
    (_TEAM, "load_state"): states.loaded(states.of_a_team),
    (_AGENT, "save_state"): states.saved(states.of_an_agent),
    (_AGENT, "load_state"): states.loaded(states.of_an_agent),
    (_AGENT, "run_stream"): team.own_context,
    (_AGENT, "on_messages"): turns_of_agents.on_messages,
    (_AGENT, "on_messages_stream"): turns_of_agents.on_messages_stream,
    ("autogen_agentchat.agents._user_proxy_agent.UserProxyAgent", "_get_input"): calls.observed_call(
        Kind.WAIT, calls.own_name
    ),
    ("autogen_agentchat.base._termination.TerminationCondition", "__call__"): termination.call,
    ("autogen_core.code_executor._base.CodeExecutor", "execute_code_blocks"): calls.observed_call(
        Kind.TOOL, calls.class_name, calls.exit_code
    ),
    ("autogen_core.tools._base.BaseStreamTool", "run_json_stream"): team.own_context,
    (_WORKBENCH, "list_tools"): workbench.list_tools,
    (_WORKBENCH, "call_tool"): workbench.call_tool,
    ("autogen_core.tools._workbench.StreamWorkbench", "call_tool_stream"): workbench.call_tool_stream,
    **{("autogen_core.memory._base_memory.Memory", name): wrapper for name, wrapper in memory.METHODS.items()},
}


#: (module, class, method) of other libraries that AutoGen talks through; attached when they are found imported.
LIBRARIES: Final = (*providers.SEAMS, ("mcp.shared.session", "BaseSession", "send_request", mcp.send_request))
#: Those of `CLIENT`; each is given, besides, what is to be done before a call.
MODEL_CALLS: Final[Mapping[str, Callable[..., Callable[..., Any]]]] = {
    "create": model_client.create,
    "create_stream": model_client.create_stream,
}
