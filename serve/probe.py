"""python -m serve.probe [--path /healthz]: whether the server in this container is ready. Exit code 0 or 1.

For HEALTHCHECK and exec probes in images that hold no curl. Asks the port that POLICY_PORT names, on this machine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
import sys

LIMIT_S = 3.0
PORT = 8080
"""The server's default; its settings would take longer to import than the answer to come."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m serve.probe", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--path", default="/readyz", help="what to ask (default /readyz)")
    options = parser.parse_args()
    told = os.environ.get("POLICY_PORT", "")
    port = int(told) if told.isdigit() else PORT  # Kubernetes sets tcp://… for a Service that is called `policy`
    connection = _connection(port)
    try:
        connection.request("GET", options.path)
        answer = connection.getresponse()
    except OSError as error:
        print(f"port {port}: {error}", file=sys.stderr)
        return 1
    print(answer.read(4096).decode())
    return 0 if answer.status == 200 else 1


def _connection(port: int) -> http.client.HTTPConnection:
    if not os.environ.get("POLICY_CERTFILE"):
        return http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    context = ssl.create_default_context()
    context.check_hostname = False  # the certificate names the service, and this asks the machine itself
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT_S, context=context)


if __name__ == "__main__":
    sys.exit(main())
