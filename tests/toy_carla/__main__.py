"""Starts the toy world, so that a person can try something against it: see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from .simulator import Simulator
from .towns import TOWNS

VERSION = "0.9.16"
"""Of LibCarla, whose client understands this server."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m toy_carla", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=2000, help="for calls; streams get the next one (default: %(default)s)"
    )
    parser.add_argument("--town", choices=TOWNS, default="ring", help="(default: %(default)s)")
    parser.add_argument("--version", default=VERSION, help="which it says it has (default: %(default)s)")
    parser.add_argument("--with-parent", action="store_true", help="end when the standard input ends")
    options = parser.parse_args()
    simulator = Simulator(options.town, options.version)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(simulator.serve(options.host, options.port, options.with_parent))


if __name__ == "__main__":
    main()
