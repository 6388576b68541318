"""Starts the toy world, so that a person can try something against it: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from .simulator import Simulator
from .towns import TOWNS
from .wire import VERSION


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m toy_carla", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2000, help="for calls; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--stream-port", type=int, help="for streams; 0 takes a free one (default: the one after --port)"
    )
    parser.add_argument("--town", choices=TOWNS, default="ring", help="(default: %(default)s)")
    parser.add_argument("--version", default=VERSION, help="which it says it has (default: %(default)s)")
    parser.add_argument("--client-traffic", action="store_true", help="let the client's own traffic manager drive")
    parser.add_argument("--with-parent", action="store_true", help="end when the standard input ends")
    options = parser.parse_args()
    streams = options.port + bool(options.port) if options.stream_port is None else options.stream_port
    simulator = Simulator(options.town, options.version, options.client_traffic)
    try:
        asyncio.run(simulator.serve(options.host, options.port, streams, options.with_parent))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"toy_carla: {error.strerror}")


if __name__ == "__main__":
    main()
