"""A thousand sidecars and one IdP on simulated time: how many ask it at once, day by day and when it comes back.

``python -m benchmarks.fleet [--write]``. Brokers, credentials, policy, breaker and the reading of answers are the
product's own; simulated are time, the IdP behind ``Source``, and the apps. Nothing touches a socket, and the same seed
gives the same figures.

==============  =====================================================================================================
simulated_time  an event loop whose time leaps to the next timer, and a ``Clock`` on it
members         the IdP, the sidecars, and the apps whose requests wait
runs            what happens to a fleet: a day, an outage; what was asked, and when
outcomes        runs to figures, against the targets; Markdown
==============  =====================================================================================================
"""
