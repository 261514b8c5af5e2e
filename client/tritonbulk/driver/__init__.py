"""Driver: the only place with tasks, the clock and deadlines.

``loop`` carries out what `Dispatch` decides; ``attempt`` sends one request; ``ends`` reads and
writes segments; ``startup`` waits for several servers at once.
"""

from tritonbulk.driver.loop import drive
from tritonbulk.driver.startup import settle_some

__all__ = ["drive", "settle_some"]
