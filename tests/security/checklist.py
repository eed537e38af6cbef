"""What an HTTP intermediary owes, line by line, each with the tests that prove it here.

Plain data; ``test_checklist`` holds it against the tests that exist. A test is named by its file below ``tests`` and by
its function; ``[name]`` picks a case that the file writes out, with ``_`` for spaces. The RFCs behind a line stand in
the tests and in the code; what went wrong elsewhere stands in ``incidents``.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    """An obligation, or an incident, and its proof."""

    what: str
    tests: tuple[str, ...]


def row(what: str, *tests: str) -> Row:
    """Tests of one file may be joined: ``file::test_a test_b``."""
    named = []
    for entry in tests:
        file, _, functions = entry.partition("::")
        named += [f"{file}::{function}" for function in functions.split(" ")]
    return Row(what, tuple(named))


LINES: Final = 65
"""Those on HTTP/1.1; HTTP/2 is not spoken."""

CHECKLIST: Final = {
    1: row(
        "Fields that Connection nominates stay here, in both directions and in trailers; Connection itself is replaced",
        "security/test_fields.py::test_what_leaves_is_what_may_leave test_what_comes_back_is_what_may_come_back",
        "security/test_fields.py::test_trailers_are_dropped_in_both_directions_and_never_merged",
    ),
    2: row(
        "Hop-by-hop fields stay here though nobody nominates them",
        "security/test_fields.py::test_what_leaves_is_what_may_leave test_what_comes_back_is_what_may_come_back",
    ),
    3: row(
        "Stripped first, injected last: no nomination removes what is set here",
        "security/test_fields.py::test_what_leaves_is_what_may_leave[what_the_proxy_sets,_nominated]",
        "security/test_fields.py::test_exactly_one_authorization_leaves_by_the_routes_policy",
    ),
    4: row(
        "Unknown fields go on, those of one name in their order",
        "security/test_fields.py::test_what_leaves_is_what_may_leave test_what_comes_back_is_what_may_come_back",
    ),
    5: row(
        "Via is appended in both directions, under a pseudonym",
        "security/test_fields.py::test_via_is_a_pseudonym_and_no_name_of_the_machine",
        "proxy/test_relay.py::test_via_is_appended_both_ways_and_a_missing_date_is_added",
    ),
    6: row(
        "A loop is refused: by the own pseudonym in Via, and by the own address",
        "security/test_fields.py::test_what_came_through_here_before_is_a_loop",
        "proxy/test_relay.py::test_link_local_addresses_and_own_listeners_are_never_upstreams",
    ),
    7: row(
        "The start line carries the own version",
        "security/test_fields.py::test_what_leaves_is_what_may_leave[a_client_of_HTTP/1.0_leaves_as_HTTP/1.1]",
        "security/test_fields.py::test_what_comes_back_is_what_may_come_back",
    ),
    8: row(
        "Path and query leave byte for byte; an empty path becomes the root, or * of OPTIONS",
        "security/test_target.py::test_path_and_query_leave_byte_for_byte",
        "security/test_target.py::test_an_empty_path_becomes_the_root_or_the_whole_server",
    ),
    9: row(
        "Content and end-to-end fields stay as they are",
        "security/test_fields.py::test_what_leaves_is_what_may_leave test_what_comes_back_is_what_may_come_back",
    ),
    10: row(
        "Authorization: replaced, kept or rejected by the route's policy; exactly one line leaves",
        "security/test_fields.py::test_exactly_one_authorization_leaves_by_the_routes_policy",
    ),
    11: row(
        "No 421 and no new Max-Forwards of our own; a missing Date is added",
        "security/test_fields.py::test_no_answer_of_the_sidecars_own_is_a_421 test_what_leaves_is_what_may_leave",
        "security/test_fields.py::test_what_comes_back_is_what_may_come_back",
    ),
    12: row(
        "407 with its challenge; Proxy-Authorization stays here; the origin's 401 passes intact",
        "security/test_incidents.py::test_a_stranger_is_challenged_and_nothing_leaves",
        "proxy/test_admission.py::test_a_challenge_is_answered_on_the_same_connection",
        "security/test_fields.py::test_the_credential_of_the_proxy_never_reaches_the_origin",
        "security/test_fields.py::test_two_proxy_credentials_are_refused test_what_comes_back_is_what_may_come_back",
    ),
    13: row(
        "What a client says of earlier hops is dropped in every spelling, unless the listener trusts it",
        "security/test_fields.py::test_what_tells_of_earlier_hops_and_what_only_looks_like_framing_is_dropped",
        "security/test_fields.py::test_all_of_them_at_once_leave_nothing_either",
        "security/test_forwarded.py::test_a_listener_that_trusts_its_clients_passes_on_what_they_say",
        "security/test_forwarded.py::test_what_gets_no_token_keeps_what_its_client_says",
    ),
    14: row(
        "An absolute target alone says where a request goes; Host is made anew from it",
        "security/test_target.py::test_an_absolute_target_alone_says_where_a_request_goes",
        "security/test_authority.py::test_one_host_in_another_spelling_gets_its_token_under_its_own_name",
        "proxy/test_tls.py::test_sni_is_the_host_of_the_route",
    ),
    15: row(
        "A missing, doubled or invalid Host is a 400",
        "security/test_target.py::test_a_missing_doubled_or_invalid_host_is_refused test_and_on_a_reverse_listener_too",
    ),
    16: row(
        "Each listener takes its own forms of target, and a reverse one leads to its upstream only",
        "security/test_target.py::test_other_forms_of_target_are_refused_by_a_forward_listener",
        "security/test_target.py::test_other_forms_of_target_are_refused_by_a_reverse_listener",
        "security/test_target.py::test_a_reverse_listener_leads_to_its_upstream_only",
        "security/test_authority.py::test_a_reverse_listener_knows_its_own_names_in_any_spelling",
    ),
    17: row(
        "Users, fragments, empty hosts, controls, other alphabets and other schemes are a 400",
        "security/test_target.py::test_a_target_that_two_readers_could_read_differently_is_refused",
        "security/test_target.py::test_a_line_end_inside_a_target_never_leaves",
    ),
    18: row(
        "A long target is a 414, an unknown method a 501; methods are case-sensitive",
        "security/test_target.py::test_a_long_target_is_a_414 test_what_is_no_token_is_no_method",
        "security/test_target.py::test_an_unknown_method_is_a_501_and_methods_are_case_sensitive",
        "security/test_parsing.py::test_a_request_line_without_an_end_is_a_414_before_it_has_one",
    ),
    19: row(
        "Bare CR, bare LF and NUL: 400, in an answer 502",
        "security/test_parsing.py::test_a_head_that_is_not_quite_http_is_refused",
        "security/test_parsing.py::test_an_answer_that_is_not_quite_http_is_a_502",
    ),
    20: row(
        "White space before a colon: 400, in an answer 502",
        "security/test_parsing.py::test_a_head_that_is_not_quite_http_is_refused[a_space_before_the_colon]",
        "security/test_parsing.py::test_an_answer_that_is_not_quite_http_is_a_502[a_space_before_a_colon]",
    ),
    21: row(
        "Folded lines: 400, in an answer 502",
        "security/test_parsing.py::test_a_head_that_is_not_quite_http_is_refused[a_folded_line]",
        "security/test_parsing.py::test_an_answer_that_is_not_quite_http_is_a_502[a_folded_line]",
    ),
    22: row(
        "A line of white space after the start line: 400",
        "security/test_parsing.py::test_a_head_that_is_not_quite_http_is_refused"
        "[a_line_of_white_space_after_the_request_line]",
    ),
    23: row(
        "A few empty lines before a request are ignored",
        "security/test_parsing.py::test_a_few_empty_lines_before_a_request_are_ignored_and_many_refused",
    ),
    24: row(
        "Other versions and other protocols: 400 or 505",
        "security/test_parsing.py::test_another_version_of_http_is_a_505 test_another_protocol_altogether_is_refused",
        "security/test_parsing.py::test_a_head_that_is_not_quite_http_is_refused[RTSP]",
    ),
    25: row(
        "A bad status line or an oversized head of an answer: 502",
        "security/test_parsing.py::test_an_answer_that_is_not_quite_http_is_a_502",
        "security/test_parsing.py::test_an_answer_within_the_limits_is_relayed",
    ),
    26: row(
        "Limits on a head's bytes, lines and trailers hold before it is whole",
        "security/test_parsing.py::test_a_head_over_a_limit_is_a_431 test_a_head_within_the_limits_is_served",
        "security/test_parsing.py::test_a_trailer_over_its_limit_is_refused_and_the_request_never_ends",
    ),
    27: row(
        "A length and chunks: 400, and the connection ends",
        "security/test_framing.py::test_a_body_whose_end_is_in_doubt_is_refused[a_length_and_chunks]",
        "security/test_framing.py::test_a_body_whose_end_is_in_doubt_is_refused[chunks_and_a_length]",
    ),
    28: row(
        "A bad or doubled length: 400; in an answer 502, and the origin's connection ends",
        "security/test_framing.py::test_a_body_whose_end_is_in_doubt_is_refused",
        "security/test_framing.py::test_an_answer_whose_end_is_in_doubt_is_a_502_and_its_connection_closed",
    ),
    29: row(
        "Transfer codings: only chunked, only at the end, and none in HTTP/1.0",
        "security/test_framing.py::test_a_body_whose_end_is_in_doubt_is_refused test_another_coding_is_a_501",
    ),
    30: row(
        "No chunks to a peer of HTTP/1.0",
        "security/test_framing.py::test_no_chunks_go_to_a_client_of_http_1_0",
    ),
    31: row(
        "Malformed chunks are refused, extensions dropped and bounded",
        "security/test_framing.py::test_a_malformed_chunk_is_refused_and_the_request_never_ends_upstream",
        "security/test_framing.py::test_a_malformed_chunk_of_an_answer_breaks_it_off",
        "security/test_framing.py::test_a_malformed_chunk_before_the_answer_has_begun_is_a_502",
        "security/test_incidents.py::test_an_endless_extension_is_refused_before_it_costs_memory",
    ),
    32: row(
        "Trailers are dropped, never merged",
        "security/test_fields.py::test_trailers_are_dropped_in_both_directions_and_never_merged",
    ),
    33: row(
        "Exactly one framing field, made anew",
        "security/test_framing.py::test_exactly_one_framing_field_leaves_and_the_next_request_begins_where_it_should",
        "security/test_framing.py::test_an_answer_ends_where_its_framing_says",
    ),
    34: row(
        "Answers without a body have none, and surplus bytes end the origin's connection",
        "security/test_framing.py::test_an_answer_ends_where_its_framing_says",
        "security/test_framing.py::test_what_follows_an_answer_is_never_the_next_one",
    ),
    35: row(
        "No framing on 1xx, 204 and the 200 to CONNECT",
        "security/test_framing.py::test_an_answer_ends_where_its_framing_says",
        "security/test_framing.py::test_a_connect_is_answered_without_framing",
    ),
    36: row(
        "A truncated answer never ends cleanly",
        "proxy/test_upstream.py::test_a_truncated_answer_never_looks_complete",
        "proxy/test_upstream.py::test_an_answer_until_close_that_tls_did_not_end_never_looks_complete",
        "proxy/test_upstream.py::test_a_truncated_answer_shows_to_an_http_1_0_client_too",
    ),
    37: row(
        "A request that its client cuts off never looks complete upstream",
        "security/test_connections.py::test_a_request_that_is_cut_off_never_looks_complete",
        "proxy/test_connection.py::test_an_upload_that_breaks_off_never_looks_complete_upstream",
    ),
    38: row(
        "A body of GET, HEAD or DELETE is a body",
        "security/test_framing.py::"
        "test_exactly_one_framing_field_leaves_and_the_next_request_begins_where_it_should[a_body_of_GET]",
    ),
    39: row(
        "Bytes after Connection: close are nothing",
        "security/test_framing.py::"
        "test_exactly_one_framing_field_leaves_and_the_next_request_begins_where_it_should"
        "[bytes_after_Connection:_close]",
    ),
    40: row(
        "Interim answers: relayed in order, bounded, and none to HTTP/1.0",
        "security/test_interim_upgrade_connect.py::test_interim_answers_are_relayed_in_order_however_they_come",
        "security/test_interim_upgrade_connect.py::test_interim_answers_are_bounded",
        "security/test_interim_upgrade_connect.py::test_a_client_of_http_1_0_gets_no_interim_answer",
    ),
    41: row(
        "Expect goes on before the body comes; any other expectation is refused",
        "security/test_interim_upgrade_connect.py::"
        "test_the_body_is_not_waited_for_before_the_expectation_goes_on test_an_expectation_goes_on_as_it_may",
        "security/test_interim_upgrade_connect.py::"
        "test_any_other_expectation_is_a_417 test_an_expectation_that_hides_is_a_400",
    ),
    42: row(
        "A final answer instead of 100 ends both connections",
        "security/test_interim_upgrade_connect.py::test_ten_final_answers_instead_of_100_poison_no_connection",
    ),
    43: row(
        "Only websocket is offered on, without a body, and nothing follows the head before the switch",
        "security/test_interim_upgrade_connect.py::"
        "test_an_offer_that_is_not_passed_on_is_served_as_plain_http test_an_offer_of_websocket_with_a_body_is_refused",
        "security/test_interim_upgrade_connect.py::test_the_body_of_a_request_that_offers_h2c_is_a_body",
        "security/test_interim_upgrade_connect.py::test_nothing_behind_the_head_goes_on_before_the_switch",
        "security/test_interim_upgrade_connect.py::test_websocket_from_http_1_0_or_with_another_method_is_no_offer",
    ),
    44: row(
        "Only a switch that was asked for becomes a tunnel; what declines it leaves HTTP",
        "security/test_interim_upgrade_connect.py::"
        "test_after_a_declined_offer_what_the_client_sends_are_requests test_a_switch_that_nobody_asked_for_is_a_502",
    ),
    45: row(
        "CONNECT leads to what has a route; early data waits for the 200, and goes with a refusal",
        "security/test_interim_upgrade_connect.py::"
        "test_what_follows_a_refused_connect_is_dropped_with_the_connection"
        " test_a_connect_over_a_reverse_listener_is_refused",
        "security/test_interim_upgrade_connect.py::test_early_requests_inside_a_tunnel_to_a_plain_port_are_requests",
        "proxy/test_tunnel.py::test_bytes_sent_before_the_tunnel_stands_are_kept_for_it",
        "security/test_target.py::test_other_forms_of_target_are_refused_by_a_forward_listener",
    ),
    46: row(
        "A tunnel passes on each end, flushes, and ends when nothing moves",
        "proxy/test_tunnel.py::test_a_half_close_of_the_client_is_passed_on_and_the_rest_still_comes_back",
        "proxy/test_tunnel.py::test_a_half_close_of_the_upstream_is_passed_on_and_the_client_may_go_on",
        "proxy/test_tunnel.py::test_a_tunnel_in_which_nothing_moves_ends",
    ),
    47: row(
        "An opened tunnel: the CONNECT, the name of the handshake and the Host inside are one",
        "proxy/test_intercept.py::test_another_name_in_the_handshake_than_in_the_connect_is_refused",
        "proxy/test_intercept.py::test_another_host_inside_than_in_the_connect_is_a_400",
        "proxy/test_minting.py::test_a_host_that_the_ca_does_not_cover_is_refused",
        "proxy/test_minting.py::test_clients_refuse_what_the_ca_signs_for_other_hosts",
        "security/test_interim_upgrade_connect.py::test_inside_a_tunnel_the_host_is_the_one_of_the_tunnel",
    ),
    48: row(
        "Max-Forwards is counted down, or answered here; TRACE gets no token",
        "security/test_interim_upgrade_connect.py::test_max_forwards_is_counted_down_and_trace_gets_no_token",
        "security/test_interim_upgrade_connect.py::test_max_forwards_that_is_no_number_is_refused",
        "security/test_forwarded.py::test_a_trace_that_ends_here_shows_its_way_and_nothing_secret",
    ),
    49: row(
        "A connection of HTTP/1.0 ends with its answer, which has no chunks",
        "security/test_framing.py::test_no_chunks_go_to_a_client_of_http_1_0",
        "security/test_framing.py::"
        "test_exactly_one_framing_field_leaves_and_the_next_request_begins_where_it_should"
        "[bytes_after_a_request_in_HTTP/1.0]",
    ),
    50: row(
        "A pipeline is answered in order, judged one by one, and ended by an error in its turn",
        "security/test_connections.py::test_a_pipeline_is_answered_in_order_and_judged_one_by_one",
    ),
    51: row(
        "A refusal reaches a client whose body nobody reads",
        "security/test_connections.py::test_a_body_that_nobody_reads_is_dropped_and_its_refusal_still_arrives",
        "proxy/test_connection.py::test_an_answer_reaches_a_client_that_is_still_sending",
    ),
    52: row(
        "An early answer ends the upload and both connections",
        "security/test_connections.py::test_an_early_answer_ends_the_upload_and_both_connections",
        "proxy/test_bodies.py::test_an_early_final_answer_is_relayed_while_the_upload_still_runs",
    ),
    53: row(
        "Bytes that nobody asked for end the origin's connection",
        "security/test_connections.py::test_bytes_that_nobody_asked_for_end_the_connection_to_the_origin",
    ),
    54: row(
        "A request is repeated once at most, and only where that is safe",
        "proxy/test_upstream.py::test_a_get_that_meets_a_dying_connection_is_sent_once_more",
        "proxy/test_upstream.py::test_a_retried_get_is_not_retried_again",
        "proxy/test_upstream.py::test_a_get_on_a_fresh_connection_is_not_retried",
        "proxy/test_upstream.py::test_a_get_that_was_answered_in_part_is_not_retried",
        "proxy/test_upstream.py::test_a_post_that_meets_a_dying_connection_is_a_502_and_never_sent_twice",
        "proxy/test_budget.py::test_with_traffic_a_share_of_it_is_allowed",
    ),
    55: row(
        "Connections are kept by all that makes them alike, and as long as the origin says",
        "proxy/test_upstream.py::test_connections_of_one_trust_are_never_used_under_another",
        "proxy/test_upstream.py::test_a_connection_that_the_upstream_will_not_keep_is_not_kept",
        "proxy/test_upstream.py::test_an_http_1_0_upstream_that_keeps_its_connection_is_believed",
        "security/test_connections.py::test_bytes_that_nobody_asked_for_end_the_connection_to_the_origin",
    ),
    56: row(
        "A client that sends no more still gets its answers",
        "security/test_connections.py::test_a_client_that_sends_no_more_still_gets_its_answers",
    ),
    57: row(
        "A client that breaks off ends the origin's work",
        "proxy/test_connection.py::test_a_client_that_breaks_off_ends_the_work_of_the_upstream",
        "security/test_client_aborts.py::test_whoever_leaves_in_whatever_state_leaves_nothing_behind",
        "proxy/test_aborts.py::test_whoever_breaks_off_wherever_nothing_is_left_behind",
    ),
    58: row(
        "Heads, bodies and tunnels have their time",
        "proxy/test_connection.py::test_a_head_that_takes_too_long_is_a_408_however_it_drips",
        "proxy/test_connection.py::test_a_body_that_stops_is_a_408",
        "proxy/test_tunnel.py::test_a_tunnel_in_which_nothing_moves_ends",
        "security/test_lifecycle.py::test_half_open_heads_are_reaped_on_time_and_nobody_else_waits",
    ),
    59: row(
        "502 for what cannot be reached or read, 504 for what is late, 503 without a token",
        "security/test_faults.py::test_a_fault_is_told_once_counted_once_and_over",
        "security/test_faults.py::test_every_fault_has_a_name_of_its_own",
        "proxy/test_upstream.py::test_an_upstream_that_refuses_connections_is_a_502",
        "proxy/test_upstream.py::test_a_name_that_does_not_resolve_is_a_502_and_is_asked_for_again",
        "proxy/test_upstream.py::test_an_upstream_that_does_not_answer_in_time_is_a_504",
        "proxy/test_tls.py::test_an_upstream_that_hangs_in_the_handshake_is_a_504",
        "proxy/test_tokens.py::test_without_a_token_the_app_gets_503_with_retry_after_and_the_upstream_nothing",
        "security/test_parsing.py::test_an_answer_that_is_not_quite_http_is_a_502",
    ),
    60: row(
        "A body over the limit is a 413, never cut to size",
        "security/test_lifecycle.py::test_a_length_over_the_limit_is_a_413_and_nothing_leaves",
        "security/test_lifecycle.py::test_a_body_that_grows_over_the_limit_is_a_413_and_never_cut_to_size",
        "security/test_lifecycle.py::test_a_body_of_the_largest_size_is_passed_on_whole",
    ),
    61: row(
        "Whoever stalls stops the other side, in bounded memory, and nobody else; the soaks measure it",
        "proxy/test_bodies.py::test_a_client_that_does_not_read_stops_the_upstream",
        "proxy/test_bodies.py::test_an_upstream_that_does_not_read_stops_the_client",
        "proxy/test_tunnel.py::test_a_client_that_does_not_read_stops_the_upstream_of_its_tunnel",
        "security/test_incidents.py::test_a_pipelined_flood_to_a_reader_that_stalls_is_bounded",
    ),
    62: row(
        "Every piece goes on at once",
        "proxy/test_bodies.py::test_each_chunk_of_an_event_stream_arrives_at_once",
        "proxy/test_bodies.py::test_each_piece_of_an_upload_leaves_at_once",
    ),
    63: row(
        "Neither the cap on connections nor a lack of descriptors stops accepting",
        "security/test_lifecycle.py::test_the_cap_on_connections_turns_away_and_does_not_kill",
        "security/test_lifecycle.py::test_a_process_out_of_descriptors_goes_on_accepting_when_there_are_some",
        "security/test_lifecycle.py::test_an_upstream_that_is_asked_for_too_much_is_a_503_for_the_rest",
        "proxy/test_pool.py::test_a_process_without_descriptors_answers_503_and_goes_on",
    ),
    64: row(
        "SIGTERM: readiness off, what is in work is finished, the rest cut at the limit",
        "end_to_end/test_reload_and_drain.py::test_sigterm_drains_and_exits_with_0_after_two_quiet_seconds",
        "end_to_end/test_reload_and_drain.py::test_a_drain_ends_at_its_limit_whatever_still_runs",
        "security/test_lifecycle.py::test_the_drain_says_so_on_answers_of_its_own",
    ),
    65: row(
        "The origin's certificate and its name are verified",
        "proxy/test_tls.py::test_an_upstream_that_does_not_verify_gets_no_request test_old_tls_is_not_spoken",
        "proxy/test_tls.py::test_the_system_does_not_trust_the_test_ca",
    ),
}
