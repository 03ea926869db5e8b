"""Measurements of crosswheel: one module each, a table of all, run by ``./x bench`` or ``python -m benchmarks``.

Every module has ``measure(settings) -> list[Row]``, and says what it compares and why that is fair. What is compared
is measured alternately in one run, so that the load of the machine meets both sides.
"""
