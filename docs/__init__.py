"""The documentation, and ``generate``, which keeps its reference tables as the code is."""
