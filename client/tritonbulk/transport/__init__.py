"""Transport: how requests and questions reach one server."""

from tritonbulk.transport.base import AttemptFailedError, Transport
from tritonbulk.transport.endpoint import Endpoint
from tritonbulk.transport.served_model import ServedModel

__all__ = ["AttemptFailedError", "Endpoint", "ServedModel", "Transport"]
