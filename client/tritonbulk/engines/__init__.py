"""Engines: a scorer in the terms of Ray Data, Spark and Daft; thin, and imported only by name.

All they add is their engine's way of handing over rows and of keeping workers; see `Scorer` for
what is done with the rows. ``tritonbulk.engines.ray`` needs ``tritonbulk[ray]``, and so on.
"""
