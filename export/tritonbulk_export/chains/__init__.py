"""Chains: several entries that answer as one, as an ensemble that Triton runs without a round trip.

``ensemble`` describes one, ``joining`` makes one of entries that are there (pre-processing, model,
post-processing), ``cutting`` and ``stages`` cut one large model into entries that work at the same
time, each on its own devices.
"""
