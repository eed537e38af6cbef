"""See the map in ``sidecar``."""
