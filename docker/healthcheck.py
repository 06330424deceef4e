"""The image's health check: exit 0 when the service in this container is ready, 1 with the reason when not.

Standard library only, and run without site packages: it runs every few seconds.
"""

import http.client
import os
import sys

SECONDS = 4


def main() -> int:
    """Ask /health/ready where the service listens; gives the exit code."""
    host = os.environ.get("CAR_VAE_HOST", "127.0.0.1")
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    port = int(os.environ.get("CAR_VAE_PORT", "8000"))
    connection = http.client.HTTPConnection(everywhere.get(host, host), port, timeout=SECONDS)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        print(response.status, response.read(1000).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
