"""Source: the input data set, read segment by segment in bounded memory.

``locate`` turns what the user names into files; one small module a format opens and streams them
(`Reader`); ``unify`` finds the one schema that holds for all; ``where`` is the filter language;
``dataset`` puts these together; ``identity`` tells whether a file is still what it was. Which rows
make which segment never depends on how a file happens to be laid out, read ahead or timed.
"""

from tritonbulk.source.columns import matching
from tritonbulk.source.dataset import Source, open_source

__all__ = ["Source", "matching", "open_source"]
