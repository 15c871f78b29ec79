"""Writes docs/reliability.md: the faults and the bad inputs that were tried, each with the test that tries it.

python -m docs.reliability            write it
python -m docs.reliability --check    exit 1 if it is not up to date, or names a test that is not there

What holds is the docstring of the test. A figure is one that the test counts to and fails without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from docs.generated import page, write_or_compare
from docs.proofs import statements

TARGET: Final = Path(__file__).with_name("reliability.md")


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, the tests that make it go wrong (`file::test`), and what they count to."""

    what: str
    proofs: tuple[str, ...]
    figure: str = ""


FORWARDING: Final = "delivery/test_forwarding.py::test_"
HTTP: Final = "delivery/test_upstream_http.py::test_"
TROUBLED: Final = "delivery/test_troubled_upstreams.py::test_"
FAN_OUT: Final = "delivery/test_fan_out.py::test_"
FAN_OUT_UPSTREAMS: Final = "delivery/test_fan_out_upstreams.py::test_"
DISK: Final = "delivery/test_failing_disk.py::test_"
DAMAGED: Final = "delivery/test_damaged_queue.py::test_"
START: Final = "delivery/test_quick_start.py::test_"
CRASH: Final = "delivery/test_crash_at_every_step.py::test_"
KILLED: Final = "delivery/test_killed.py::test_"
QUEUE: Final = "delivery/test_batch_queue.py::test_"
LETTERS: Final = "delivery/test_dead_letters.py::test_"
WHOLE: Final = "sidecar_service/test_whole_sidecar.py::test_"
PROCESS: Final = "sidecar_service/test_process.py::test_"
RELOAD: Final = "policy/test_policy_reload.py::test_"
PAGES: Final = "admin/test_admin_pages.py::test_"
EXPORTS: Final = "intake/test_exports.py::test_"
SERVING: Final = "intake/test_serving.py::test_"
INTAKE_HTTP: Final = "intake/test_http_bounds.py::test_"
TURNS: Final = "intake/test_turns.py::test_"
CLIENTS: Final = "intake/test_clients.py::test_"
SOCKET: Final = "intake/test_unix_socket.py::test_"
BOUNDS: Final = "redaction/test_redaction_bounds.py::test_"
WIRE: Final = "redaction/test_redaction_wire.py::test_"
REDACTION: Final = "redaction/test_redaction_faults.py::test_"
WORKERS: Final = "workers/test_workers.py::test_"
QUOTAS: Final = "senders/test_quotas.py::test_"
HEARTBEATS: Final = "stalls/test_heartbeats.py::test_"
VERDICTS: Final = "stalls/test_verdicts.py::test_"
BLOCKED: Final = "stalls/test_named_while_blocked.py::test_"
CELLS: Final = "stalls/test_hostile_cells.py::test_"
RESTART: Final = "alerting/test_restart.py::test_"
EXPORTING: Final = "exporting/test_export.py::test_"
HOSTILE: Final = "hostile_input/test_hostile_processes.py::test_"
CALLERS: Final = "hostile_input/test_hostile_clients.py::test_"

FAULTS: Final[dict[str, tuple[Fault, ...]]] = {
    "The upstream": (
        Fault(
            "nobody there",
            (FORWARDING + "an_upstream_that_comes_late_gets_what_waited_for_it", HTTP + "nobody_there_is_later"),
        ),
        Fault("slow, and answers", (TROUBLED + "an_upstream_that_is_slow_and_answers_is_waited_for",)),
        Fault(
            "never answers",
            (
                FORWARDING + "an_upstream_that_hangs_is_given_up_after_the_deadline",
                HTTP + "an_upstream_that_never_answers_is_given_up_after_the_deadline",
                HTTP + "an_answer_that_trickles_in_does_not_extend_the_deadline",
            ),
        ),
        Fault(
            "half open",
            (TROUBLED + "a_half_open_connection_is_found_by_keepalive",),
            "found within 20 s as set; the test's pings are faster",
        ),
        Fault(
            "reset in the middle of a call",
            (TROUBLED + "a_reset_in_the_middle_of_a_call_is_tried_again_under_the_same_name",),
        ),
        Fault(
            "UNAVAILABLE most of the time",
            (
                FORWARDING + "an_upstream_that_is_unavailable_most_of_the_time_gets_everything",
                HTTP + "unavailable_most_of_the_time_gets_everything",
            ),
            "70 % of the attempts fail, 100 % of the records arrive",
        ),
        Fault(
            "refuses one batch",
            (
                LETTERS + "records_at_fault_are_told_from_the_others",
                FAN_OUT_UPSTREAMS + "one_poisoned_request_among_joined_ones_costs_itself",
            ),
        ),
        Fault("refuses everything", (LETTERS + "an_upstream_that_refuses_everything_is_not_asked_for_ever",)),
        Fault(
            "takes a part",
            (FORWARDING + "partial_success_is_counted_and_not_retried", HTTP + "partial_success_is_counted"),
        ),
        Fault(
            "answers too much, or nonsense",
            (
                TROUBLED + "an_answer_that_is_too_large_is_no_refusal",
                HTTP + "an_answer_that_is_no_bounded_answer_is_read_no_further",
                FORWARDING + "an_answer_that_is_no_answer_counts_as_taken",
            ),
        ),
        Fault("wants to be left alone for hours", (FORWARDING + "a_wish_to_wait_for_hours_is_cut",)),
        Fault(
            "its certificate has expired", (TROUBLED + "an_expired_certificate_is_never_spoken_to",), "nothing is sent"
        ),
        Fault(
            "certificates are replaced",
            (
                "delivery/test_upstream_credentials.py::test_a_certificate_that_is_replaced_is_used",
                HTTP + "mutual_tls_with_certificates_that_are_replaced",
            ),
        ),
        Fault(
            "one of several is dead, or hangs",
            (
                FAN_OUT_UPSTREAMS + "a_dead_upstream_delays_nobody_and_gets_everything_later",
                FAN_OUT_UPSTREAMS + "an_upstream_that_hangs_delays_nobody",
            ),
        ),
    ),
    "The disk": (
        Fault(
            "full", (DISK + "a_disk_that_is_full_and_has_room_again", DISK + "senders_are_put_off_while_the_disk_fails")
        ),
        Fault("full for a dead letter", (LETTERS + "a_full_disk_costs_the_letter_and_nothing_else",)),
        Fault(
            "read-only, or broken",
            (
                DISK + "a_failing_disk_stops_the_taking_and_nothing_else",
                DISK + "a_write_that_gets_through_in_part_leaves_nothing",
            ),
        ),
        Fault("cannot be read for a while", (DISK + "what_cannot_be_read_now_is_not_given_up",)),
        Fault(
            "a flipped bit",
            (DAMAGED + "a_flip_of_every_bit", DAMAGED + "a_flip_in_every_byte_of_a_segment_that_was_not_finished"),
            "each bit of the file, one by one",
        ),
        Fault("cut off", (DAMAGED + "a_cut_at_every_offset",), "each length of the file"),
        Fault(
            "a start with much that waits",
            (START + "a_start_reads_little_and_counts_all", START + "a_footer_of_another_segment_is_not_believed"),
        ),
        Fault("no room for a footer", (START + "a_disk_that_has_no_room_for_a_footer_ends_nothing",)),
        Fault(
            "damage in the middle",
            (
                DAMAGED + "damage_in_the_middle_is_put_aside_and_kept",
                DAMAGED + "damage_that_happens_while_it_runs_costs_the_segment_and_is_counted",
            ),
        ),
        Fault("a note of progress that is damaged", (DAMAGED + "a_cursor_that_is_damaged_counts_as_none",)),
        Fault(
            "death, or a power cut, at any operation",
            (CRASH + "death_at_every_operation", CRASH + "death_while_recovering_from_death"),
            "each write, sync, rename and removal; 0 acknowledged records lost",
        ),
        Fault("two owners", (QUEUE + "a_folder_has_one_owner", PROCESS + "a_second_owner_of_the_folder_is_refused")),
        Fault(
            "the bound of the queue is reached",
            (
                WHOLE + "a_full_queue_puts_senders_off",
                QUEUE + "the_bound_holds_while_many_threads_offer",
                FAN_OUT + "who_is_overtaken_loses_the_oldest_and_nobody_is_put_off",
            ),
        ),
    ),
    "Processes": (
        Fault(
            "SIGKILL under load",
            (KILLED + "kills_under_load_lose_nothing_that_was_acknowledged",),
            "10 kills, two upstreams, 0 acknowledged spans lost; 200 kills in the long run, below",
        ),
        Fault("a storm of restarts", (KILLED + "a_storm_of_restarts_keeps_everything",), "20 restarts"),
        Fault(
            "SIGTERM, the upstream dead",
            (
                FORWARDING + "what_cannot_be_delivered_in_the_grace_period_is_there_for_the_next_process",
                PROCESS + "a_second_signal_ends_it_at_once",
                FORWARDING + "stopping_ends_an_attempt_that_hangs",
            ),
        ),
        Fault(
            "a part of the sidecar hangs",
            (
                "sidecar_service/test_signs_of_life.py::test_a_forwarder_that_hangs_is_named",
                "sidecar_service/test_signs_of_life.py::test_a_poller_that_hangs_is_named",
                "sidecar_service/test_signs_of_life.py::test_a_request_that_hangs_is_seen_at_the_intake",
            ),
        ),
        Fault(
            "a redaction worker dies, or hangs",
            (
                WORKERS + "a_worker_that_dies_over_a_request_is_replaced_and_the_request_redone",
                WORKERS + "a_worker_that_hangs_is_replaced_and_the_request_redone",
                WORKERS + "a_request_that_ends_two_workers_is_put_off",
            ),
        ),
        Fault(
            "no sidecar, a late one, one that goes away",
            (
                EXPORTING + "a_dead_sidecar_neither_disturbs_nor_delays",
                BLOCKED + "a_sidecar_that_comes_late_or_never_changes_nothing",
                BLOCKED + "a_sidecar_that_restarts_is_told_again",
            ),
        ),
        Fault(
            "the application is stopped (SIGSTOP), or under a debugger",
            (
                BLOCKED + "a_process_that_is_stopped_for_a_while_is_told_of_as_such",
                VERDICTS + "a_debugger_that_lets_the_process_run_is_told_of_only_when_a_slice_would_be_overdue",
            ),
        ),
        Fault(
            "the sidecar is stopped (SIGSTOP)",
            (
                CALLERS + "a_sidecar_that_was_stopped_goes_on",
                BLOCKED + "a_sidecar_that_comes_late_or_never_changes_nothing",
            ),
            "3 s here, 60 s in the long run, below",
        ),
        Fault(
            "the application dies",
            (
                BLOCKED + "a_process_that_is_killed_in_good_health_is_dead",
                BLOCKED + "a_process_that_dies_in_the_middle_ends_its_stall",
            ),
        ),
        Fault(
            "the host has no CPU for it",
            (
                VERDICTS + "a_slice_whose_thread_had_no_cpu_is_not_overdue",
                VERDICTS + "a_watchdog_that_had_no_cpu_itself_accuses_nobody",
            ),
        ),
        Fault(
            "forks, pools, application servers",
            (
                HOSTILE + "children_tell_of_themselves",
                HOSTILE + "forks_in_the_middle_of_everything",
                EXPORTING + "a_child_forked_later_is_left_alone",
            ),
            "30 children, forked in the middle of everything",
        ),
        Fault(
            "a clock that jumps",
            (
                HEARTBEATS + "clocks_that_drift_apart_make_no_stall",
                "alerting/test_telling_alertmanager.py::test_a_clock_that_was_set_back_makes_no_alert_of_the_future",
                QUOTAS + "a_clock_that_stands_or_goes_back_gives_nothing_away",
                "hostile_input/test_hostile_messages.py::test_a_clock_that_is_out_of_its_mind",
            ),
        ),
    ),
    "Hostile clients": (
        Fault(
            "noise, and requests that were changed",
            (
                WHOLE + "mutated_requests_are_taken_or_refused_and_always_counted",
                "redaction/test_redaction_reference.py::test_damaged_requests_are_malformed_or_safe",
                "redaction/test_redaction_reference.py::test_garbage_is_malformed_or_safe",
            ),
        ),
        Fault("a request that is cut", (WIRE + "a_request_cut_anywhere_is_malformed_or_whole",), "at each offset"),
        Fault("nesting without end", (WIRE + "no_depth_of_nesting_matters",)),
        Fault(
            "a bomb",
            (
                EXPORTS + "a_request_over_the_limit_is_refused_before_the_next_stage",
                SERVING + "a_grpcio_that_inflates_bombs_is_refused",
                CALLERS + "a_bomb_from_a_stranger_costs_no_memory",
                INTAKE_HTTP + "a_bomb_costs_no_memory",
            ),
            "128 MB of zeros over gRPC, 512 MB over HTTP: at most 32 MB more memory",
        ),
        Fault(
            "2,000,000 empty messages",
            (
                BOUNDS + "two_million_of_nothing_are_refused",
                BOUNDS + "a_refusal_comes_early",
                CALLERS + "two_million_empty_resources_are_refused_by_reason",
            ),
            "at most 64 MB more memory",
        ),
        Fault("200,000 attributes", (BOUNDS + "a_record_with_too_many_foreign_attributes_is_dropped",)),
        Fault(
            "texts that are dear to search",
            (
                BOUNDS + "a_request_of_disguised_texts_spends_its_budget",
                "redaction/test_redaction_actions.py::test_no_pattern_can_hang",
            ),
        ),
        Fault(
            "metadata without end",
            (
                EXPORTS + "metadata_over_the_limit_is_refused",
                CALLERS + "metadata_of_20_kb_is_refused",
                INTAKE_HTTP + "a_head_over_the_limit_is_refused",
            ),
        ),
        Fault(
            "connections that say nothing",
            (
                SERVING + "a_connection_that_says_nothing_is_closed",
                INTAKE_HTTP + "idle_connections_do_not_keep_others_out",
                PAGES + "idle_connections_cannot_keep_others_out",
                CALLERS + "thousands_of_idle_connections_leave_the_rest_reachable",
            ),
            "6,000 connections, where 4,096 have a place",
        ),
        Fault(
            "questions without credentials that never end",
            (SERVING + "strangers_who_ask_without_an_end_keep_nobody_out",),
        ),
        Fault(
            "a body that trickles in",
            (
                SERVING + "senders_that_never_finish_do_not_keep_others_out",
                TURNS + "a_body_that_trickles_in_gives_its_place_up_when_somebody_waits",
                INTAKE_HTTP + "a_body_that_does_not_come_is_given_up",
            ),
        ),
        Fault(
            "large bodies from many connections at once",
            (CALLERS + "large_bodies_wait_with_those_who_send_them",),
            "400 MB sent, at most 340 MB more memory",
        ),
        Fault(
            "a flood",
            (
                TURNS + "a_flood_over_one_connection_does_not_keep_another_out",
                TURNS + "one_sender_never_has_the_last_places",
            ),
        ),
        Fault("a flood of pings", (CALLERS + "a_flood_of_pings_ends_its_connection",)),
        Fault("smuggled requests", (INTAKE_HTTP + "requests_that_smuggle_are_refused",)),
        Fault(
            "no token, a revoked one, somebody else's name",
            (
                CLIENTS + "who_shows_nothing_that_is_known_is_refused",
                CLIENTS + "a_caller_who_is_refused_has_sent_nothing_yet",
                CLIENTS + "a_token_is_replaced_while_the_sidecar_runs",
                "stalls/test_who_announced.py::test_who_is_no_client_any_more_loses_the_stream",
                "redaction/test_foreign_tenants.py::test_a_record_of_another_tenant_is_refused_alone",
            ),
        ),
        Fault(
            "probing for what is there",
            (
                "admin/test_admin_credentials.py::test_what_is_anothers_is_as_absent_as_what_never_was",
                "admin/test_admin_credentials.py::test_a_stranger_is_told_nothing",
            ),
        ),
    ),
    "Policies": (
        Fault(
            "a file that cannot be used",
            (RELOAD + "what_cannot_be_used_changes_nothing_and_is_alerted",),
            "invalid, half written, empty, gone, a folder, garbage, an anchor bomb",
        ),
        Fault(
            "reloads under load",
            (
                RELOAD + "each_record_is_redacted_by_one_policy_under_a_thousand_reloads",
                "workers/test_workers_in_the_sidecar.py::test_each_record_is_under_one_policy_whatever_becomes_of_workers",
                CALLERS + "reloads_under_load_by_signal",
            ),
            "1,000 reloads, each span under one policy",
        ),
        Fault(
            "a redactor that raises",
            (
                REDACTION + "a_rule_that_fails_costs_its_value",
                REDACTION + "a_fault_inside_a_record_costs_the_record",
                REDACTION + "a_fault_outside_of_records_costs_the_request",
            ),
        ),
        Fault("keys that are damaged", ("policy/test_keyring.py::test_what_we_did_not_write_is_refused",)),
    ),
    "Tenants": (
        Fault(
            "1,000,000 ids",
            (
                "hostile_input/test_hostile_tenants.py::test_a_million_tenants",
                QUOTAS + "a_million_tenants_take_the_room_of_some",
                TURNS + "a_million_senders_take_no_more_room_than_some",
                "delivery/test_embedded_store.py::test_tenants_beyond_the_bound_share_one_total",
                CALLERS + "tenants_beyond_number_take_no_more_memory",
            ),
        ),
        Fault(
            "one floods",
            (
                "senders/test_quotas_of_a_sidecar.py::test_a_tenant_that_floods_costs_the_others_nothing",
                "redaction/test_quota_in_redaction.py::test_only_who_is_over_loses_records",
            ),
        ),
        Fault("evil ids", ("hostile_input/test_hostile_tenants.py::test_an_evil_id_binds_unknown_and_is_not_touched",)),
        Fault(
            "the application's resolver raises",
            ("hostile_input/test_hostile_tenants.py::test_the_resolver_is_somebody_elses_code",),
        ),
    ),
    "The watch": (
        Fault(
            "heartbeats out of order, twice, replayed",
            (HEARTBEATS + "heartbeats_out_of_order_twice_and_replayed_change_nothing",),
        ),
        Fault(
            "heartbeats from the future",
            (
                HEARTBEATS + "a_heartbeat_from_the_future_changes_nothing",
                HEARTBEATS + "a_stream_whose_clock_ran_away_is_ended",
            ),
        ),
        Fault(
            "heartbeats that stay away, or flap",
            (
                HEARTBEATS + "heartbeats_that_stay_away_are_silence_and_no_stall",
                HEARTBEATS + "heartbeats_that_come_and_go_are_told_of_once",
            ),
        ),
        Fault(
            "the sidecar was just restarted",
            (HEARTBEATS + "a_restarted_sidecar_raises_no_storm", RESTART + "a_restart_with_many_alerts_is_no_storm"),
            "50 firing alerts, 0 messages at the start",
        ),
        Fault(
            "a cell that is cut, spoilt, forged",
            (
                CELLS + "a_truncated_cell_is_refused",
                CELLS + "any_header_is_refused_or_survived",
                CELLS + "garbage_behind_a_genuine_identity_is_survived",
            ),
        ),
        Fault(
            "a cell that is a link, or another user's",
            (CELLS + "a_file_that_others_could_write_or_redirect_is_refused", CELLS + "another_users_file_is_refused"),
        ),
        Fault(
            "an intruder on the stream",
            (
                "stalls/test_intruders.py::test_a_second_stream_cannot_take_a_loop_over",
                CELLS + "any_bytes_on_a_stream_are_survived",
            ),
        ),
        Fault(
            "a receiver of alerts that hangs, or drips",
            (
                "alerting/test_hostile_receivers.py::test_a_receiver_that_hangs_is_left",
                "alerting/test_hostile_receivers.py::test_the_poller_waits_for_no_receiver",
            ),
        ),
    ),
    "This machine": (
        Fault(
            "a port, or a socket, that is taken",
            (
                SERVING + "a_port_is_not_shared",
                SOCKET + "the_socket_of_a_living_process_is_not",
                "sidecar_service/test_unix_sockets.py::test_a_socket_that_another_sidecar_has_is_not_taken",
            ),
        ),
        Fault(
            "a stale socket, a link in its place",
            (SOCKET + "the_socket_of_a_dead_process_is_replaced", SOCKET + "what_is_not_a_socket_is_not_touched"),
        ),
        Fault(
            "a folder that others may enter",
            (
                SOCKET + "a_folder_that_others_may_enter_is_refused",
                "delivery/test_embedded_store.py::test_a_folder_that_others_may_enter_is_refused",
                "delivery/test_embedded_store.py::test_a_symbolic_link_is_not_followed",
            ),
        ),
        Fault(
            "forged log lines",
            (
                "sidecar_service/test_log_lines.py::test_no_value_can_forge_a_line",
                CELLS + "a_refusal_is_one_line_whatever_it_is_about",
            ),
        ),
        Fault("a web page that asks the admin listener", (PAGES + "other_names_for_it_are_refused",)),
    ),
}
NOT_TRIED: Final = (
    "The kernel's OOM killer: it ends processes by SIGKILL, which was tried; what a limit does before was not.",
    "A host that is suspended for hours: clocks are injected in the tests, no machine was put to sleep.",
    "A disk that lies about syncs.",
)
LONG: Final = (
    (
        "`python tests/redaction/soak_redaction.py`",
        "a million messages, a secret in each, and a reference; long ones in two ways; a fuzzer that compares the two",
        "1,000,000 messages, 557,092 records of long ones, no secret out; 230,238 inputs of the fuzzer, no difference",
    ),
    (
        "`python tests/delivery/soak_delivery.py`",
        "SIGKILL under load, again and again; two upstreams",
        "200 kills, 32,340 spans acknowledged, 0 lost",
    ),
    (
        "`python tests/hostile_input/soak_sidecar.py`",
        "memory of a process: bombs, empty messages, a million tenants, 1,000 reloads; a minute's SIGSTOP",
        "MB more: bomb of 512: 5; empty messages: 57; 200 bodies of 4: 230; tenants: 1; reloads: 0. Back after 0.03 s",
    ),
)


def lines() -> Iterator[str]:
    """The document."""
    count = sum(len(faults) for faults in FAULTS.values())
    yield "# What it withstands"
    yield ""
    yield f"{count} faults, each with the tests that make it happen; all of them run in `make test`. What holds is what"
    yield "the tests say that they hold, and a figure is one without which the test fails. Written by"
    yield "`docs/reliability.py`; `make docs` renews it."
    yield ""
    yield "Whatever happens, `received + recovered = forwarded + rejected + dropped + queued` at every destination,"
    yield "exactly, in every scrape ([test](../tests/delivery/test_ledger.py)); nothing of a payload is on the disk"
    yield "([test](../tests/sidecar_service/test_whole_sidecar.py)); and the application's results are the same"
    yield "([test](../tests/transparency/test_same_results.py))."
    for place, faults in FAULTS.items():
        yield ""
        yield f"## {place}"
        yield ""
        yield "| fault | what holds | figure |"
        yield "| --- | --- | --- |"
        for fault in faults:
            said = [
                f"{text} ([test](../tests/{test.partition('::')[0]}))"
                for proof in fault.proofs
                for test, text in statements(proof)
            ]
            yield f"| {fault.what} | {'<br>'.join(said)} | {fault.figure} |".replace("  |", " |")
    yield ""
    yield "## In the long run"
    yield ""
    yield "`make soak` runs them all:"
    yield ""
    yield "| command | what it does | seen |"
    yield "| --- | --- | --- |"
    yield from (f"| {command} | {what} | {seen} |" for command, what, seen in LONG)
    yield ""
    yield "## Not tried"
    yield ""
    yield from (f"- {what}" for what in NOT_TRIED)


if __name__ == "__main__":
    sys.exit(write_or_compare([(TARGET, page(lines()))]))
