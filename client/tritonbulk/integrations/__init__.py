"""Integrations: orchestrators that run the command line, each thin over `command`.

None of them is imported by anything else here; each needs its own package.
"""
