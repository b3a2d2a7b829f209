"""Measurements: against TRL (``peers``, ``curves``), of growth (``growth``), and of each setting alone (``ablation``).

Each is a command, ``python -m benchmarks.NAME``, that writes ``OUT/benchmarks/NAME.json`` with every raw number, and
the page ``OUT/benchmarks.md`` from all such files that are there.
"""
