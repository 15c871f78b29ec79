"""The dashboard *Agents and models*: what the work is, how long each part takes, what it costs in tokens, what fails.

Durations of spans come from the Collector, which measures every span before it samples traces; they carry traces as
examples.
"""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards.prometheus_names import SPAN_CALLS, SPAN_DURATION, of_library
from instrumentation import conventions as library

from .board import Row, board, variables
from .panels import COUNT, PER_SECOND, SECONDS, examples, lines, now, query, steps, verdict
from .queries import BY_TENANT, OURS, WINDOW, mean, p99, quantile, rate, series, threshold, total

REFUSED = threshold("TenantRateLimited")
CALLS = rate(library.OPERATION_DURATION, part=2)
TOKENS = rate(library.TOKEN_USAGE, part=1)
MODEL = "{{gen_ai_request_model}}"


def span_time(share: float, verb: str) -> str:
    """A quantile of the duration of spans whose name begins with `verb`, by the rest of the name."""
    where = f'{OURS}, span_name=~"{verb} .*"'
    return f"histogram_quantile({share}, sum by (span_name, le) (rate({SPAN_DURATION[0]}{{{where}}}{WINDOW})))"


def spans_by(label: str) -> str:
    """Spans per second that have the label, by what it says."""
    return f'sum by ({label}) (rate({SPAN_CALLS}{{{OURS}, {label}!=""}}{WINDOW}))'


def first_look() -> list[Builder[Panel]]:
    """The size of it, and what is wrong."""
    return [
        verdict(
            "Model calls per second",
            "Calls of models that ended, of all chosen tenants.",
            PER_SECOND, now(CALLS), (4, 4), steps(), "none",
        ),
        verdict(
            "p95 model call",
            "95th percentile of the time that a call of a model took.",
            SECONDS, now(quantile(0.95, library.OPERATION_DURATION, "job")), (4, 4), steps(10, 60), "none",
        ),
        verdict(
            "Tokens per second",
            "Tokens of prompts and of completions, of all chosen tenants.",
            PER_SECOND, now(TOKENS), (4, 4), steps(), "none",
        ),
        verdict(
            "Refused by models",
            "Answers per second with HTTP status 429, too many requests. Red is where TenantRateLimited fires.",
            PER_SECOND, now(rate(library.RATE_LIMITS)), (4, 4), steps(REFUSED / 2, REFUSED), "none",
        ),
        verdict(
            "Agents kept",
            "Agents that the runtimes keep. AutoGen never frees one: a number that only rises is a leak in the making.",
            COUNT, now(total(series(library.AGENTS))), (4, 4), steps(10_000, 100_000), "none",
        ),
        verdict(
            "Messages waiting",
            "Messages and responses that wait in the runtimes' queues at this moment.",
            COUNT, now(total(series(library.QUEUE_SIZE))), (4, 4), steps(1000, 10_000), "none",
        ),
    ]  # fmt: skip


def models() -> list[Builder[Panel]]:
    """Calls of models, and their tokens."""
    return [
        lines(
            "p95 model call, by model",
            "95th percentile of the time that a call took. It is waiting, not loop time: a slow model delays its own "
            "tenant only.",
            SECONDS, [query(quantile(0.95, library.OPERATION_DURATION, "gen_ai_request_model"), MODEL)], (6, 8),
        ),
        lines(
            "p99 model call, by tenant",
            "99th percentile of the time that a call of a model took. One tenant far above the others has long "
            "prompts, or is being held back by its provider.",
            SECONDS, [query(p99(library.OPERATION_DURATION, "tenant_id"), BY_TENANT)], (6, 8),
        ),
        lines(
            "p95 wait for the first piece, by model",
            "95th percentile of the time until a streamed answer begins: what a person in front of it waits for.",
            SECONDS,
            [query(quantile(0.95, library.FIRST_CHUNK_DURATION, "gen_ai_request_model"), MODEL)], (6, 8),
        ),
        lines(
            "Sent again, by tenant",
            "Requests of model calls per second that the client sent again, after a refusal or an error.",
            PER_SECOND, [query(rate(library.RESENDS, "tenant_id"), BY_TENANT)], (6, 8),
        ),
        lines(
            "Model calls, by model",
            "Calls per second that ended, well or not.",
            PER_SECOND, [query(rate(library.OPERATION_DURATION, "gen_ai_request_model", part=2), MODEL)], (6, 8),
            stacked=True,
        ),
        lines(
            "Tokens, by tenant",
            "Tokens per second that each tenant's model calls took and gave. Multiply by your price for the cost.",
            PER_SECOND,
            [query(rate(library.TOKEN_USAGE, "tenant_id, gen_ai_token_type", part=1),
                   "{{tenant_id}} {{gen_ai_token_type}}")],
            (6, 8), stacked=True,
        ),
        lines(
            "Tokens per call, by model",
            "Mean number of tokens of a call. Prompts that grow from turn to turn are a conversation that nobody cuts.",
            COUNT,
            [query(mean(library.TOKEN_USAGE, "gen_ai_request_model, gen_ai_token_type"),
                   f"{MODEL} {{{{gen_ai_token_type}}}}")],
            (6, 8),
        ),
        lines(
            "Refused by models, by tenant",
            "Answers per second with HTTP status 429, also where sending again went well. The dashed line is the "
            "threshold of TenantRateLimited.",
            PER_SECOND, [query(rate(library.RATE_LIMITS, "tenant_id"), BY_TENANT)], (6, 8), red=REFUSED,
        ),
    ]  # fmt: skip


def agents() -> list[Builder[Panel]]:
    """Messages and who handles them."""
    return [
        lines(
            "p99 handling, by type of agent",
            "99th percentile of the time that a handler took, with everything that it waited for.",
            SECONDS, [query(p99(library.PROCESS_DURATION, "autogen_agent_type"), "{{autogen_agent_type}}")], (8, 8),
        ),
        lines(
            "Messages, by type of agent",
            "Messages handled per second, by the type of the agent that handled them.",
            PER_SECOND,
            [query(rate(library.PROCESS_DURATION, "autogen_agent_type", part=2), "{{autogen_agent_type}}")],
            (8, 8), stacked=True,
        ),
        lines(
            "Errors, by kind and type",
            "Activities that ended with an exception, per second, by kind of activity and class of the exception.",
            PER_SECOND,
            [query(rate(library.ERRORS, "error_type, autogen_activity"), "{{error_type}} in {{autogen_activity}}")],
            (8, 8), stacked=True,
        ),
        lines(
            "Messages waiting, by tenant",
            "Messages and responses in the runtimes' queues. What grows here is sent faster than it is handled.",
            COUNT, [query(total(series(library.QUEUE_SIZE), "tenant_id"), BY_TENANT)], (6, 8), stacked=True,
        ),
        lines(
            "p99 wait of a response, by tenant",
            "99th percentile of the time that an answer lay in the queue before its caller got it.",
            SECONDS, [query(p99(library.RESPONSE_DURATION, "tenant_id"), BY_TENANT)], (6, 8),
        ),
        lines(
            "Handlers that nobody waits for, by tenant",
            "Handlers that run on though their caller has given up: work that is paid for and thrown away.",
            COUNT, [query(total(series(library.ABANDONED), "tenant_id"), BY_TENANT)], (6, 8),
        ),
        lines(
            "Agents kept, by type",
            "Agents that the runtimes keep, by type. AutoGen never frees one.",
            COUNT, [query(total(series(library.AGENTS), "autogen_agent_type"), "{{autogen_agent_type}}")], (6, 8),
        ),
    ]  # fmt: skip


def turns() -> list[Builder[Panel]]:
    """Spans, with traces as examples."""
    failed = f'{OURS}, status_code="STATUS_CODE_ERROR"'
    return [
        lines(
            "p95 run of a team",
            "95th percentile of the time from the start to the end of a team's run, by class of the team. Dots are "
            "traces; those of failed and slow runs are always kept.",
            SECONDS, [examples(span_time(0.95, "invoke_workflow"), "{{span_name}}")], (6, 8),
        ),
        lines(
            "p95 turn of an agent",
            "95th percentile of the time that an agent of a team took for its turn. Dots are traces.",
            SECONDS, [examples(span_time(0.95, "invoke_agent"), "{{span_name}}")], (6, 8),
        ),
        lines(
            "p95 call of a tool",
            "95th percentile of the time that a tool took. Dots are traces.",
            SECONDS, [examples(span_time(0.95, "execute_tool"), "{{span_name}}")], (6, 8),
        ),
        lines(
            "Failed spans, by name",
            "Spans per second that ended with an error, by what they are about.",
            PER_SECOND,
            [query(f"sum by (span_name) (rate({SPAN_CALLS}{{{failed}}}{WINDOW}))", "{{span_name}}")], (6, 8),
        ),
        lines(
            "Runs of teams, by what ended them",
            "Runs per second that ended, by the classes of the termination conditions that held, `max_turns`, or the "
            "manager's own decision.",
            PER_SECOND, [query(spans_by("autogen_stop_reason"), "{{autogen_stop_reason}}")], (12, 8), stacked=True,
        ),
        lines(
            "Conversations handed over, by whom to",
            "Tool calls per second that hand a conversation over, by the agent or person that it goes to. Much of it "
            "between the same two is a conversation that goes round in circles.",
            PER_SECOND, [query(spans_by("gen_ai_transfer_target_name"), "{{gen_ai_transfer_target_name}}")], (12, 8),
            stacked=True,
        ),
    ]  # fmt: skip


def build() -> Dashboard:
    """The whole dashboard."""
    name = of_library(library.MESSAGES)[0]
    return board(
        "agents",
        "Agents and models",
        "What tenants' agents, models and tools do: how long it takes, what it costs in tokens, what fails.",
        variables(name, name),
        [
            Row("", first_look()),
            Row("Models", models()),
            Row("Agents", agents()),
            Row("Turns and tools, with traces", turns()),
        ],
    )
