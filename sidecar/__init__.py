"""Token Sidecar: a proxy beside a workload that puts fresh OAuth 2.0 tokens on its outbound requests.

This docstring is the map of the house. Imports point one way: a file imports only from what stands above it here
(``tests/test_architecture.py`` holds the order). ``o`` marks sans-IO files: they never import asyncio, socket, ssl,
time, random or os, so they can be read and tested as plain functions.

======================  ===================================================================================
errors            o     one tree; each leaf says its reason word, whose fault, retryable, HTTP status
secrets                 ``Secret``, which never prints itself, and the references ``file:`` ``env:`` ``cred:``
runtime                 the clock, named tasks, randomness for jitter
telemetry/              ``metrics`` every metric once; ``log`` the structlog chain and its redaction; ``abuse`` o
                        bursts; ``recent`` the last requests; ``tracing`` the switch of ``spans``, which alone knows
                        OpenTelemetry, ``trace_context`` o whose child they are
config/                 ``model`` o the typed configuration; ``presets`` o the provider table, ``completion`` o fills it
                        in; ``load`` YAML to model, every error with its position;
                        ``reload`` noticing that the file changed, ``difference`` o what a reload changed, ``shown`` o
                        what others may see; ``local_ca`` the CA of interception as files
http/                   ``message`` o heads and fields; ``hygiene`` o refuse or normalise; ``h1`` o parser glue;
                        ``intake`` o heads that come in pieces
oauth/                  ``jws`` o keys and signatures, ``assertion`` o and ``dpop`` o what is signed; ``inputs`` o of a
                        request, ``grants`` o and ``client_auth`` o its parts; ``answer`` o and the ``token`` o in it;
                        ``discovery`` o; ``interactive`` o a person's consent, which comes back to the ``redirect`` o
                        URI; and ``endpoint``, which alone does I/O
broker/                 ``policy`` o and ``breaker`` o decide; where tokens come from: ``source``, ``idp`` with
                        ``rotation`` of its secrets, ``command``, and ``renewal``, which spends the refresh tokens that
                        ``sealing`` and ``store`` keep, and ``consent`` begins; ``fetch`` is one attempt, ``credential``
                        one refresh loop, ``waits`` and ``report`` serve it; ``broker`` holds them all
proxy/                  what a request means: ``authority`` o, ``paths`` o, ``routing`` o, ``admission`` o,
                        ``entrance`` o, ``exchange`` o, ``answers``, ``addresses``; told beforehand: ``question`` o,
                        ``explaining`` o; what is known of it: ``account``,
                        ``budget`` o; its token: ``proving``, ``recovery`` by ``challenges`` o; then sockets:
                        ``resolver``, ``tls``, ``upstream`` one connection, ``pool`` all of them, ``minting``
                        certificates for ``intercept``, ``relay`` one request, ``tunnel``, ``connect``, ``ending``,
                        ``peer``, ``reception``, ``connection`` one client, ``listener``
admin/                  ``page_server`` what both listeners for people and programs share; ``telemetry_server``;
                        ``access`` o who may, ``admin_server``, and the ``client`` that asks one from outside; the
                        status page: ``static_page``, its data in ``status`` by ``facts`` o, ``rates`` o and
                        ``claims`` o, live by ``event_stream``; ``logins``, ``support_bundle``
simulation/             for the demo and the tests: ``idp`` a mock identity provider, ``faults`` its script;
                        ``provider`` its settings, ``registration`` its clients, ``exchange`` a request; what it
                        checks: ``client_auth``, ``assertions``, ``dpop``; what it gives: ``grants``, ``tokens``,
                        ``signing``; what a person sees: ``authorization``, ``device``, ``pages``; ``metadata``.
                        Beside it ``echo``, an API that wants its tokens, and ``certificates``. Faults by name are the
                        ``catalogue``; ``injection`` puts them in and out; ``control`` takes them by HTTP
read_once               what is read with the configuration and has to stand before anything is served
preflight/              ``sidecar check``: ``kinds`` o of ``findings`` o, and its stages: ``offline`` by its ``lints``,
                        ``online`` the others: ``network`` by ``dialling``, ``live``, ``probe``; ``subject`` is what is
                        checked, ``jobs`` runs what takes time, ``checkup`` all of it; ``formats`` tells it
app                     the composition root: configuration in, running generation out; swaps it on reload
rehearsal/              a configuration run through failures: ``scenario`` what a file says and ``reading`` it;
                        ``made_up`` secrets, ``credentials`` and the whole ``arrangement`` pointed at mocks; a ``stage``
                        for it or a ``remote`` sidecar; ``run``, with ``traffic``; the ``timeline`` o, its ``verdict`` o
                        and ``reports`` o
cli/                    one file per command; ``callback``, where the browser of a login comes back to; ``arguments``
                        that commands share; ``client_settings``, what a client's environment says; and
                        ``status_table``, how a sidecar looks in a terminal
testing                 the pytest plugin: provider and sidecar as fixtures for the tests of an application
======================  ===================================================================================

A request flows listener -> connection -> http (parse, refuse) -> routing -> broker (a plain read on the warm path) ->
exchange (the upstream head) -> upstream pool -> bytes relayed both ways with back-pressure. A token flows credential
loop -> grants -> client_auth -> endpoint -> token (parse, validate) -> policy (the next moment). A configuration flows
load -> model -> app, which builds a whole new generation and swaps it in; a failure keeps the old one and says so.
"""

__version__ = "0.1.0"
