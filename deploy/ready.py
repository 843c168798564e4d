"""Health check of the images: ends with 0 if the server in this container takes tasks.

Run with ``python3 -IS``: it imports the standard library only, so it costs little processor time.
"""

import http.client
import os
import ssl
import sys


def main() -> int:
    """0: ``GET /ready`` was answered with 200. 1: it was not, and standard error says why."""
    port = int(os.environ.get("UVICORN_PORT") or 5001)
    connection: http.client.HTTPConnection
    if os.environ.get("UVICORN_SSL_CERTFILE"):
        # The name in the certificate is that of the service, not of this address.
        anyone = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=anyone)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        reply = connection.getresponse()
        text = reply.read(200).decode("utf-8", "replace")
    except OSError as exc:
        print(exc, file=sys.stderr)
        return 1
    if reply.status != 200:
        print(f"{reply.status}: {text}", file=sys.stderr)
    return int(reply.status != 200)


if __name__ == "__main__":
    sys.exit(main())
