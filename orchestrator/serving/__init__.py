"""HTTP/1.1 for kpipe's own listeners: the control socket, the metrics port and the publish endpoint.

h11 reads and writes the protocol; here is what a listener needs around it: how many connections, how long each may
take, whose `Host` is answered, and what happens when the system runs out of descriptors.
"""

from orchestrator.serving.hosts import Hosts
from orchestrator.serving.limits import ListenerLimits
from orchestrator.serving.messages import Page, Request, RequestRefused, Response
from orchestrator.serving.server import Server
from orchestrator.serving.site import Site

__all__ = ["Hosts", "ListenerLimits", "Page", "Request", "RequestRefused", "Response", "Server", "Site"]
