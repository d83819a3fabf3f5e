"""trainenv beside its peers at the same work: whole processes, interleaved rounds, medians and ranges.

``python -m benchmarks`` measures and writes a table, a picture and the raw numbers to ``results/``.
"""
