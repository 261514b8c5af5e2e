"""Transport: how requests and questions reach one server.

``endpoint`` is the channel, and the transport of unary calls; ``stream`` and ``shared_memory`` are
faster ones that fall back to it; ``choice`` says which, ``opening`` opens it.
"""

from tritonbulk.transport.base import AttemptFailedError, Transport
from tritonbulk.transport.choice import Carriage, choose_carriage
from tritonbulk.transport.endpoint import Endpoint
from tritonbulk.transport.opening import open_transports
from tritonbulk.transport.region import SharedMemoryAccess
from tritonbulk.transport.served_model import ServedModel

__all__ = [
    "AttemptFailedError",
    "Carriage",
    "Endpoint",
    "ServedModel",
    "SharedMemoryAccess",
    "Transport",
    "choose_carriage",
    "open_transports",
]
