"""What the sidecar costs beside other proxies: same machine, same run, same origin, same load.

``python -m benchmarks`` runs everything; ``benchmarks/setup`` installs the peers first. Nothing here is a test: a
machine's numbers are read by people, and written down with the machine they were taken on.

==============  =============================================================================================="""
