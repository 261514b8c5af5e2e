"""Bench: how fast the user's own rows go through a model, by batch rows and requests in flight."""
