"""Whether the sidecar holds out: hours' worth of trouble in minutes, each with a target and its figure.

``python -m benchmarks.soaks [NAME ...] [--quick] [--write]``. The load, the provider and the origins run in one event
loop on one core, the sidecar as a process on another; everything is on loopback and ends with the command. Nothing here
is a test: a machine's numbers are read by people, and written down with the machine they were taken on.

===================  ================================================================================================
readings             RSS and descriptors from /proc; percentile and slope
content              bodies that both ends know
origin               an HTTP/1.1 origin that can misbehave, with an application for each path
client               connections that read answers strictly, and callers that keep them
traffic              steady callers of every kind that must not fail
probe                a trickle of small requests, and what they feel
stage                provider, origins, and the sidecar as a process
report               outcomes to Markdown, against the targets
stalled              peers that stop in the middle of a gibibyte
slowloris            heads that come byte by byte and never end
idle_race            origins that close kept connections at the worst moment: no lost GET, no doubled POST
retry_amplification  what an origin that always does so is asked for
drain                SIGTERM under load
reload               SIGHUP under load, again and again
idle_connections     what a connection costs that does nothing
idle_websockets      what a WebSocket costs that does nothing
trim                 memory after a burst of large bodies
mix                  requests of every kind, by chance
endurance            a million requests of every kind; what grows
===================  ================================================================================================
"""
