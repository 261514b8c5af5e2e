"""Source frameworks, one module each; each has one function that returns a `SourceModel`.

A module is imported only when a model of its framework is exported.
"""
