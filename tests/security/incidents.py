"""What went wrong in other products, by the lesson, each with the tests that stand against it here.

Plain data, like ``checklist``; ``test_checklist`` holds it against the tests that exist.
"""

from __future__ import annotations

from typing import Final

from tests.security.checklist import Row, row

INCIDENTS: Final[dict[str, Row]] = {
    "Traefik CVE-2024-45410, Go CVE-2021-33197": row(
        "Connection lines, doubled or with an empty option, strip what the proxy set",
        "security/test_fields.py::test_what_leaves_is_what_may_leave[an_empty_first_option]",
        "security/test_fields.py::test_what_leaves_is_what_may_leave[what_the_proxy_sets,_nominated]",
    ),
    "waitress, twisted, aiohttp, mitmproxy, h11 and gunicorn on smuggling (CVE-2019-16785 to CVE-2025-53643)": row(
        "Heads, lengths and chunks that two readers take apart differently",
        "security/test_parsing.py::test_a_head_that_is_not_quite_http_is_refused",
        "security/test_framing.py::test_a_body_whose_end_is_in_doubt_is_refused",
        "security/test_framing.py::test_a_malformed_chunk_is_refused_and_the_request_never_ends_upstream",
        "property/test_http_properties.py::test_a_request_we_accept_is_the_request_that_h11_sees",
        "property/test_http_properties.py::test_a_chunked_body_that_h11_refuses_is_refused_however_it_is_cut",
    ),
    "aiohttp CVE-2023-37276": row(
        "An old parser inside a new package",
        "security/test_incidents.py::test_the_parser_is_the_compiled_one_that_these_tests_were_written_for",
    ),
    "Pingora CVE-2026-2833 and CVE-2026-2835, nghttpx CVE-2026-58055": row(
        "Bytes that go on before the switch, and an Upgrade with a body",
        "security/test_interim_upgrade_connect.py::test_nothing_behind_the_head_goes_on_before_the_switch",
        "security/test_interim_upgrade_connect.py::test_an_offer_of_websocket_with_a_body_is_refused",
        "security/test_interim_upgrade_connect.py::test_the_body_of_a_request_that_offers_h2c_is_a_body",
    ),
    "Envoy CVE-2024-23326 and CVE-2025-64763": row(
        "A 200 taken for a switch, and early data after a CONNECT",
        "security/test_interim_upgrade_connect.py::test_after_a_declined_offer_what_the_client_sends_are_requests",
        "security/test_interim_upgrade_connect.py::test_what_follows_a_refused_connect_is_dropped_with_the_connection",
    ),
    "Kubernetes CVE-2018-1002105": row(
        "A declined switch that leaves a connection with credentials open to the client",
        "security/test_interim_upgrade_connect.py::test_after_a_declined_offer_what_the_client_sends_are_requests",
    ),
    "Go CVE-2024-24791, Akamai CVE-2025-32094": row(
        "A final answer instead of 100 poisons a kept connection",
        "security/test_interim_upgrade_connect.py::test_ten_final_answers_instead_of_100_poison_no_connection",
    ),
    "Pingora CVE-2025-4366": row(
        "An unread body left on a connection that is used again",
        "security/test_connections.py::test_a_body_that_nobody_reads_is_dropped_and_its_refusal_still_arrives",
        "security/test_connections.py::test_an_early_answer_ends_the_upload_and_both_connections",
    ),
    "twisted CVE-2023-46137": row(
        "Answers to a pipeline out of order",
        "security/test_connections.py::test_a_pipeline_is_answered_in_order_and_judged_one_by_one[the_first_one_slow]",
    ),
    "requests, urllib3, twisted, Go and Kubernetes on redirects (CVE-2014-1829 to CVE-2025-4673)": row(
        "A redirect that takes the credentials along",
        "security/test_incidents.py::test_a_redirect_is_the_apps_and_shows_no_token",
        "oauth/test_endpoint.py::test_redirects_are_not_followed_and_cookies_not_kept",
    ),
    "Smokescreen CVE-2022-24825 and CVE-2022-29188, Traefik CVE-2026-48491": row(
        "Spellings of a host that pass for another, and a Host that is not the name of the handshake",
        "security/test_authority.py::"
        "test_what_two_readers_could_read_differently_is_refused_in_target_and_host"
        " test_another_host_gets_no_token_and_nothing_is_sent_to_it test_a_tunnel_to_another_host_is_refused"
        " test_a_reverse_listener_gives_nothing_to_another_name",
        "proxy/test_intercept.py::test_another_host_inside_than_in_the_connect_is_a_400",
    ),
    "tokenizer: patterns without anchors, guards that are off": row(
        "Hosts are compared whole, with scheme and port, and addresses judged in any case",
        "proxy/test_routing.py::test_a_route_takes_exactly_its_host_and_port",
        "proxy/test_addresses.py::test_an_address_that_is_never_an_upstream_is_refused_even_with_a_route",
        "security/test_framing.py::test_what_follows_an_answer_is_never_the_next_one",
    ),
    "iron-proxy: tokens in cleartext, cut bodies, a refresh that died with a request": row(
        "Scheme and port count, plain upstreams are asked for, bodies are whole, a refresh is nobody's",
        "proxy/test_routing.py::test_https_never_leaves_as_http",
        "security/test_authority.py::test_the_ports_of_the_route_get_the_token_whatever_the_scheme",
        "security/test_lifecycle.py::test_a_body_that_grows_over_the_limit_is_a_413_and_never_cut_to_size",
        "broker/test_credential.py::test_a_waiter_that_leaves_cancels_nothing",
        "proxy/test_tokens.py::test_a_client_that_leaves_while_it_waits_for_a_token_cancels_nothing",
    ),
    "sandbox-runtime CVE-2025-66479": row(
        "An empty list of what is allowed, taken for all",
        "security/test_incidents.py::test_without_routes_nothing_gets_anywhere",
        "config/test_rules.py::test_a_list_that_matches_nothing_is_an_error",
    ),
    "Kubernetes CVE-2020-8562": row(
        "A name that is checked, and resolved again",
        "security/test_authority.py::test_a_name_that_moves_to_the_metadata_service_is_never_dialled",
        "proxy/test_resolver.py::test_a_name_that_moves_to_the_metadata_service_is_refused_at_its_next_look_up",
    ),
    "Capital One 2019": row(
        "Requests to the metadata service, in whatever wrapping",
        "proxy/test_addresses.py::test_the_same_address_inside_ipv6_is_refused_too"
        " test_metadata_is_recognised_inside_the_rarer_wrappings_too",
        "security/test_authority.py::test_of_a_mixed_answer_only_what_may_be_dialled_is",
        "proxy/test_relay.py::test_nothing_without_a_route_reaches_loopback",
    ),
    "mitmproxy CVE-2025-23217 and CVE-2018-14505, linkerd CVE-2024-40632": row(
        "Pages of the proxy, reached through it, by a rebound name, or by anybody",
        "security/test_incidents.py::test_the_sidecars_own_pages_cannot_be_had_through_it_and_change_nothing",
        "admin/test_telemetry_server.py::test_every_other_path_is_not_found test_every_other_method_is_refused",
    ),
    "Kubernetes CVE-2020-8558, 0.0.0.0-day, browsers on loopback": row(
        "Other processes, other pods and web pages that use the listener",
        "security/test_incidents.py::test_a_base_url_with_a_key_gives_nothing_without_it",
        "config/test_rules.py::test_a_listener_beyond_loopback_must_be_asked_for",
        "proxy/test_listener.py::test_a_unix_socket_is_for_its_owner_alone_by_default",
        "proxy/test_admission.py::test_a_process_of_another_user_is_told_so_and_disconnected_before_anything_is_read"
        " test_a_base_url_with_a_key_takes_it_off_and_injects_the_token",
        "proxy/test_entrance.py::test_a_page_of_another_site_cannot_spend_the_token_through_a_base_url",
        "security/test_authority.py::test_a_reverse_listener_gives_nothing_to_another_name",
    ),
    "proxy.py CVE-2021-3116": row(
        "A wrong scheme or a wrong secret, taken one for the other",
        "security/test_incidents.py::test_a_stranger_is_challenged_and_nothing_leaves",
        "proxy/test_admission.py::test_anything_else_is_refused_with_407 test_no_password_at_all_is_refused_with_407"
        " test_no_key_another_key_and_two_keys_are_refused",
    ),
    "Squid CVE-2025-62168 and CVE-2026-47729": row(
        "Credentials in error pages, logs and what else is told",
        "end_to_end/test_canary.py::test_no_secret_of_a_malformed_request_is_said"
        " test_no_secret_is_said_when_the_upstream_breaks_or_refuses_the_token",
        "proxy/test_answers.py::test_the_method_is_not_echoed",
        "proxy/test_tokens.py::test_answers_of_the_sidecar_carry_the_generation_and_never_the_token",
    ),
    "oauth2-proxy CVE-2025-64484, CVE-2026-40575 and CVE-2026-41059": row(
        "Names that an upstream takes for trusted ones, and a policy on other bytes than are sent",
        "security/test_fields.py::test_what_tells_of_earlier_hops_and_what_only_looks_like_framing_is_dropped",
        "security/test_target.py::test_a_target_that_two_readers_could_read_differently_is_refused[a_fragment]",
        "security/test_authority.py::test_a_path_that_any_reader_resolves_out_of_the_prefix_gets_none"
        " test_a_path_that_no_two_readers_agree_on_is_refused test_another_method_than_the_route_names_gets_no_token"
        " test_a_path_below_the_prefix_gets_the_token_byte_for_byte",
    ),
    "gunicorn CVE-2018-1000164, urllib3 CVE-2019-11236, aiohttp CVE-2023-49081": row(
        "Line ends inside what becomes a field",
        "oauth/test_token.py::test_a_token_that_could_break_a_header_is_refused",
        "property/test_token_answers.py::test_an_answer_is_a_safe_token_or_an_error_of_ours",
        "proxy/test_admission.py::test_a_key_that_no_field_can_carry_is_an_error_at_start",
    ),
    "uvicorn CVE-2020-7694, Envoy CVE-2024-45808": row(
        "Lines forged in a log",
        "security/test_incidents.py::test_what_a_client_sends_is_one_bounded_line_of_json",
        "telemetry/test_access_log.py::test_bytes_that_are_no_text_cannot_forge_or_break_a_line",
        "telemetry/test_log.py::test_nobody_can_forge_a_line test_a_line_has_a_longest_length",
    ),
    "Linkerd CVE-2025-43915": row(
        "Labels and caches that grow with what clients send",
        "security/test_incidents.py::test_ten_thousand_hosts_cost_no_series_and_no_memory_that_grows",
        "telemetry/test_metrics.py::test_the_series_stay_within_the_budget_whatever_clients_and_idps_send",
        "proxy/test_resolver.py::test_memory_of_names_and_of_addresses_is_bounded",
        "proxy/test_minting.py::test_the_context_longest_unused_makes_room",
    ),
    "CPython CVE-2024-12254, aiohttp CVE-2025-69228, Node CVE-2024-22019": row(
        "Memory spent on peers that stall, on extensions, on chunks of one byte",
        "security/test_incidents.py::test_a_pipelined_flood_to_a_reader_that_stalls_is_bounded"
        " test_an_endless_extension_is_refused_before_it_costs_memory",
        "proxy/test_bodies.py::test_a_client_that_does_not_read_stops_the_upstream",
        "http/test_h1.py::test_a_body_in_chunks_of_one_byte_is_legitimate_however_long"
        " test_framing_without_content_is_bounded",
    ),
    "aiohttp CVE-2025-69223": row(
        "Bombs that go off when they are unpacked",
        "security/test_incidents.py::test_an_answer_is_never_unpacked",
        "oauth/test_endpoint.py::test_an_answer_over_the_bound_is_malformed test_a_compressed_answer_is_not_unpacked",
    ),
    "waitress CVE-2020-5236, urllib3 CVE-2021-33503, idna CVE-2024-3651": row(
        "Time spent on what an attacker wrote",
        "security/test_incidents.py::test_an_authority_of_64_kib_is_refused_quickly",
        "proxy/test_routing.py::test_an_enormous_authority_is_refused_quickly",
    ),
    "Slowloris": row(
        "Heads that never end",
        "security/test_lifecycle.py::test_half_open_heads_are_reaped_on_time_and_nobody_else_waits",
    ),
    "Open CONNECT": row(
        "A proxy as a stepping stone to mail, shells and nodes",
        "security/test_incidents.py::test_no_tunnel_leads_to_a_port_that_is_not_the_webs",
        "proxy/test_tunnel.py::test_unmatched_tunnels_lead_to_web_ports_only_even_where_they_are_passed_through",
    ),
    "waitress CVE-2022-31015": row(
        "A race while closing that ends the loop",
        "security/test_client_aborts.py::test_whoever_leaves_in_whatever_state_leaves_nothing_behind",
        "proxy/test_aborts.py::test_whoever_breaks_off_wherever_nothing_is_left_behind",
    ),
}
