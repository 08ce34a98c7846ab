"""The lower bound of latency: the same server answers the same requests without a decision."""

from __future__ import annotations

import sys

from extender.server.http_servers import server_for
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.web import scheduler_api, wire


class Undecided(scheduler_api.SchedulerApi):
    """Decodes the arguments and returns the node names."""

    async def filter(self, body: bytes) -> bytes:
        names = list(wire.named_nodes(wire.decode_args(body)).names.texts)
        return wire.encode(wire.ExtenderFilterResult(None, names))

    async def prioritize(self, body: bytes) -> bytes:
        names = list(wire.named_nodes(wire.decode_args(body)).names.texts)
        return wire.encode([wire.HostPriority(name, 0) for name in names])


def main() -> None:
    """Serve on the port given as the only argument."""
    service = build_service(Settings(server=Server(log_level="warning")), scheduler_api=Undecided)
    server_for(service, "127.0.0.1", int(sys.argv[1])).run()


if __name__ == "__main__":
    main()
