"""python -m serve.probe [--path /healthz]: exits with 0 if the server in this container is ready, else with 1.

For HEALTHCHECK and exec probes in images without curl. Sends a GET request to POLICY_PORT on this machine, or to the
Unix socket that POLICY_HOST names.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import ssl
import sys

from carla_mlflow.client.unix_address import is_unix, socket_path

LIMIT_S = 3.0
PORT = 8080
"""The server's default, repeated here because importing its settings takes longer than the request."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m serve.probe", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--path", default="/readyz", help="path to request (default /readyz)")
    return parser


def main() -> int:
    options = build_parser().parse_args()
    host, port = os.environ.get("POLICY_HOST", ""), os.environ.get("POLICY_PORT", "")
    number = int(port) if port.isdigit() else PORT  # Kubernetes sets tcp://… for a Service named `policy`
    try:
        connection = _UnixConnection(host) if is_unix(host) else _connection(number)
        connection.request("GET", options.path)
        answer = connection.getresponse()
    except (OSError, ValueError) as error:
        print(f"{host if is_unix(host) else f'port {number}'}: {error}", file=sys.stderr)
        return 1
    print(answer.read(4096).decode())
    return 0 if answer.status == 200 else 1


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        super().__init__("localhost", timeout=LIMIT_S)
        self._path = str(socket_path(address))

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(self._path)


def _connection(port: int) -> http.client.HTTPConnection:
    if not os.environ.get("POLICY_CERTFILE"):
        return http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    context = ssl.create_default_context()
    context.check_hostname = False  # the certificate names the service, not 127.0.0.1
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT_S, context=context)


if __name__ == "__main__":
    sys.exit(main())
