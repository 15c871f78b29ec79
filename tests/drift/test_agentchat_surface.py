"""Fails when AgentChat's surface is another than the one that the hooks for teams were written for."""

from __future__ import annotations

import inspect

import autogen_agentchat.agents as agents
import autogen_agentchat.conditions as conditions
import autogen_agentchat.teams as teams
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import AndTerminationCondition, Handoff, OrTerminationCondition, TaskResult
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat
from autogen_agentchat.teams._group_chat import _base_group_chat_manager
from autogen_agentchat.teams._group_chat._graph import _digraph_group_chat
from autogen_agentchat.teams._group_chat._magentic_one import _magentic_one_orchestrator
from autogen_apps import replaying
from autogen_core.code_executor import CodeResult

from instrumentation.hooks.termination import of_a_manager


def test_every_agent_team_and_condition_is_known() -> None:
    """A new one may do something that no test has seen."""
    assert set(agents.__all__) == {
        "BaseChatAgent", "AssistantAgent", "CodeExecutorAgent", "SocietyOfMindAgent", "UserProxyAgent",
        "MessageFilterAgent", "MessageFilterConfig", "PerSourceFilter", "ApprovalFuncType", "ApprovalRequest",
        "ApprovalResponse",
    }  # fmt: skip
    assert set(teams.__all__) == {
        "BaseGroupChat", "RoundRobinGroupChat", "SelectorGroupChat", "Swarm", "MagenticOneGroupChat",
        "DiGraphBuilder", "DiGraph", "DiGraphNode", "DiGraphEdge", "GraphFlow",
    }  # fmt: skip
    assert set(conditions.__all__) == {
        "MaxMessageTermination", "TextMentionTermination", "StopMessageTermination", "TokenUsageTermination",
        "HandoffTermination", "TimeoutTermination", "ExternalTermination", "SourceMatchTermination",
        "TextMessageTermination", "FunctionCallTermination", "FunctionalTermination",
    }  # fmt: skip


def test_how_autogen_words_an_end() -> None:
    """The words that stop reasons of no condition are told by."""
    manager = inspect.getsource(_base_group_chat_manager)
    assert 'content=f"Maximum number of turns {self._max_turns} reached."' in manager
    assert 'content="The group chat has already terminated."' in manager
    assert of_a_manager("Maximum number of turns 3 reached.") == "max_turns"
    assert of_a_manager(_digraph_group_chat._DIGRAPH_STOP_MESSAGE) == "graph_complete"
    assert of_a_manager("The group chat has already terminated.") == "already_terminated"
    assert '_prepare_final_answer("Max rounds reached."' in inspect.getsource(_magentic_one_orchestrator)
    assert of_a_manager("Max rounds reached.") == "max_turns"
    # Else MagenticOne ends with words of the model.
    assert "StopMessage(content=reason, source=self._name)" in inspect.getsource(_magentic_one_orchestrator)
    assert of_a_manager("whatever") == of_a_manager(None) == "manager"
    assert set(TaskResult.model_fields) == {"messages", "stop_reason"}


def test_conditions_keep_their_parts() -> None:
    """Both kinds of whole, by their names."""
    parts = (MaxMessageTermination(1), TextMentionTermination("x"))
    for whole, kind in ((parts[0] & parts[1], AndTerminationCondition), (parts[0] | parts[1], OrTerminationCondition)):
        assert type(whole) is kind
        assert whole._conditions == parts


def test_whom_a_team_knows() -> None:
    """Its participants, and at whose handoff it ends."""
    ends = HandoffTermination("user")
    team = RoundRobinGroupChat([AssistantAgent("a", replaying())], termination_condition=ends)
    assert (team._participant_names, team._termination_condition, ends._target) == (["a"], ends, "user")


def test_agents_keep_their_handoffs_by_the_names_of_their_tools() -> None:
    """What says that a tool call hands over, and to whom."""
    agent = AssistantAgent("a", replaying(), handoffs=["b", Handoff(target="c", name="to_c")])
    assert {name: handoff.target for name, handoff in agent._handoffs.items()} == {"transfer_to_b": "b", "to_c": "c"}
    assert [tool.name for tool in agent._handoff_tools] == ["transfer_to_b", "to_c"]


def test_where_a_person_is_waited_for_and_code_runs() -> None:
    """One method each; a team's id is on the team."""
    assert list(inspect.signature(UserProxyAgent._get_input).parameters) == ["self", "prompt", "cancellation_token"]
    assert "await self._get_input(" in inspect.getsource(UserProxyAgent.on_messages_stream)
    assert "exit_code" in CodeResult.__dataclass_fields__
    assert "self._team_id = str(uuid.uuid4())" in inspect.getsource(BaseGroupChat.__init__)
