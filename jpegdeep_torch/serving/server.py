"""An application as a process that listens: uvicorn, with a limit on how slowly a request may begin."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ..errors import MissingExtra, ModelError

try:
    import uvicorn
    from starlette.applications import Starlette
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise MissingExtra(f"serving needs {error.name}: pip install 'jpegdeep-torch[serve]'") from None


def run_server(app: Starlette, host: str = "127.0.0.1", port: int = 8000, *, seconds: float = 30.0) -> None:
    """Serves until the process is told to end (SIGINT, SIGTERM); requests under way are finished.

    Args:
        app: of `create_app`.
        host, port: where it listens; port 0 is any free one.  The address is printed once it listens.
        seconds: within which the head of a request has to have arrived.

    Raises:
        ModelError: it cannot listen there.
    """
    try:
        listener = socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise ModelError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    config = uvicorn.Config(
        app, http=_protocol(seconds), ws="none", log_level="warning", access_log=False, timeout_keep_alive=15,
        timeout_graceful_shutdown=10, limit_concurrency=512,
    )  # fmt: skip
    print(f"listening on http://{host}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    class PatientOnce(H11Protocol):
        """Closes a connection on which the head of a request does not arrive in time: uvicorn itself waits for ever."""

        _begun: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Starts the clock where no request is being served, and stops it where one is."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_watching()
            elif self._begun is None:
                self._begun = self.loop.call_later(seconds, self._close_idle)

        def _stop_watching(self) -> None:
            if self._begun is not None:
                self._begun.cancel()
                self._begun = None

        def _close_idle(self) -> None:
            self._begun = None
            if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
                self.transport.close()

    return PatientOnce
