"""Sinks: where the rows of a finished job are published, beside its parts.

`publish` decides, one module a sink does; each sink's package is an extra and imported when it is
used. ``docs/sinks.md`` has the promises.
"""
