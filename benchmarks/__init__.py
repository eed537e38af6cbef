"""What the sidecar costs beside other proxies: same machine, same run, same origin, same load.

``python -m benchmarks`` runs everything; ``benchmarks/setup`` installs the peers first. Nothing here is a test: a
machine's numbers are read by people, and written down with the machine they were taken on.

==============  =====================================================================================================
scenarios       what is asked for: body size and upstream transport
processes       start a program, pin it to a core, wait for its ports, end it
workshop        one run's folder: ports, test certificate, client secret, the token that must arrive
idp             the token endpoint, a thread of the benchmark
origin          nginx that answers 401 to whatever comes without that token
peers           how each proxy is configured and started, each to its best at the same job
load            one wrk run; any error fails it
measure         CPU and memory of a process from /proc
machine         date, CPU, kernel and Python that figures belong to
rounds          interleaved rounds, memory and start-up, as plain results
report          results to Markdown, against the targets
fuzz/           another command: our HTTP/1.1 parser beside two others, on made and harmed input
soaks/          reliability: the sidecar alone under hours' worth of trouble; ``python -m benchmarks.soaks``
fleet/          token life: a thousand sidecars and one IdP on simulated time; ``python -m benchmarks.fleet``
bursts          token life: many requests at once and one token; ``python -m benchmarks.bursts``
rotation_kills  another: a process that is killed at every step of a rotation of refresh tokens
==============  =====================================================================================================
"""
