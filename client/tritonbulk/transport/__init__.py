"""Transport: how requests and questions reach one server.

``endpoint`` is the channel, and the transport of unary calls; ``stream`` and ``shared_memory`` are
faster ones that fall back to it; ``choice`` says which, ``opening`` opens it;
``naming`` tells the servers that a name stands for, ``sameness`` whether they serve one model.
"""

from tritonbulk.transport.base import AttemptFailedError, Transport
from tritonbulk.transport.choice import Carriage, choose_carriage
from tritonbulk.transport.endpoint import Endpoint
from tritonbulk.transport.naming import Target, is_name, resolve
from tritonbulk.transport.opening import open_transport, open_transports
from tritonbulk.transport.region import SharedMemoryAccess
from tritonbulk.transport.sameness import mixture
from tritonbulk.transport.served_model import ServedModel

__all__ = [
    "AttemptFailedError",
    "Carriage",
    "Endpoint",
    "ServedModel",
    "SharedMemoryAccess",
    "Target",
    "Transport",
    "choose_carriage",
    "is_name",
    "mixture",
    "open_transport",
    "open_transports",
    "resolve",
]
