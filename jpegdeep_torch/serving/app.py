"""The web application: DeepStack's detection API, a page to try it, and what watches it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..errors import JpegDeepError, JpegError, MissingExtra
from ..inference.detector import Detector
from .batching import BatchingDetector, Found, TooBusy

try:
    from starlette.applications import Starlette
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtra(f"serving needs {error.name}: pip install 'jpegdeep-torch[serve]'") from None

_DRAINED = 10  # times the limit: how much of too large a body is read before the connection is closed
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    upload_mb: the largest body, in MiB.
    seconds: within which a request has to have arrived.
    waiting: requests under way at once; any more get status 503.
    """

    upload_mb: float = 32.0
    seconds: float = 30.0
    waiting: int = 64


class BadRequest(JpegDeepError):
    """A request that cannot be served, with its HTTP status."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def create_app(detector: Detector, *, score: float = 0.4, limits: Limits = Limits()) -> Starlette:
    """The application, for any ASGI server.

    POST /v1/vision/detection: a JPEG, as the field 'image' of a multipart form or as the body itself; answers as
        DeepStack and CodeProject.AI do.  A form's 'min_confidence' replaces `score`.
    GET /: a page on which one drops a JPEG.
    GET /v1/status: the network, and what was served.

    Args:
        detector: its `nms.score_threshold` is the least that a client can ask for.
        score: of the detections that are returned, at least.
        limits: what a client may ask for.
    """
    server = _Server(detector, score, limits)
    routes = [
        Route("/", server.page),
        Route("/v1/vision/detection", server.detect, methods=["POST"]),
        Route("/v1/status", server.status),
        Route("/v1/status/ping", server.status),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        server.batching.close()

    return Starlette(routes=routes, lifespan=lifespan)


class _Server:
    def __init__(self, detector: Detector, score: float, limits: Limits):
        self.detector, self.score, self.limits = detector, score, limits
        self.batching = BatchingDetector(detector, limits.waiting)
        self.served: Counter[int] = Counter()  # by HTTP status
        self.started = time.time()

    async def page(self, request: Request) -> Response:
        return HTMLResponse(files(__package__).joinpath("page.html").read_text("utf-8"))

    async def status(self, request: Request) -> Response:
        return JSONResponse(
            {
                "success": True, "model": self.detector.config.name, "classes": self.detector.class_names,
                "coefficients": self.detector.preset.coefficients if self.detector.config.is_dct else None,
                "backend": self.detector.runner.info.name, "seconds": round(time.time() - self.started, 3),
                "requests": {str(status): count for status, count in sorted(self.served.items())},
            }
        )  # fmt: skip

    async def detect(self, request: Request) -> Response:
        began = time.perf_counter()
        try:
            data, fields = await asyncio.wait_for(self._upload(request), self.limits.seconds)
            score = _score(fields.get("min_confidence"), self.score)
            received = time.perf_counter()
            found = await self.batching.detect(data)
            answer = self._answer(found, score)
            answer["duration"] = answer["processMs"] = round((time.perf_counter() - received) * 1e3, 3)
            answer["stages_ms"] = {"receive": round((received - began) * 1e3, 3), **answer["stages_ms"]}
            return self._respond(200, answer)
        except asyncio.TimeoutError:  # a subclass of its own in Python 3.10
            return self._refuse(408, f"the request did not arrive within {self.limits.seconds:g} s")
        except BadRequest as error:
            return self._refuse(error.status, str(error))
        except JpegError as error:
            return self._refuse(400, str(error))
        except TooBusy as error:
            return self._refuse(503, str(error))
        except ClientDisconnect:
            return self._refuse(400, "the connection was closed before the request had arrived")
        except Exception:  # a server goes on
            _LOG.exception("a request failed")
            return self._refuse(500, "detecting failed; the server's log says why")

    def _answer(self, found: Found, score: float) -> dict[str, Any]:
        rows = zip(*(found.value[key].tolist() for key in ("boxes", "scores", "labels")))
        predictions = [
            {
                "label": self.detector.class_names[label - 1], "confidence": confidence,
                "x_min": round(box[0]), "y_min": round(box[1]), "x_max": round(box[2]), "y_max": round(box[3]),
            }
            for box, confidence, label in rows if confidence >= score
        ]  # fmt: skip
        height, width = found.image_size
        stages = {name: round(ms, 3) for name, ms in found.stages_ms.items()}
        return {
            "success": True, "predictions": predictions, "count": len(predictions), "code": 200,
            "inferenceMs": stages["network"], "image": {"width": width, "height": height},
            "stages_ms": stages, "batch_size": found.batch_size,
        }  # fmt: skip

    def _refuse(self, status: int, reason: str) -> Response:
        return self._respond(status, {"success": False, "error": reason, "code": status})

    def _respond(self, status: int, answer: dict[str, Any]) -> Response:
        self.served[status] += 1
        # A body that was not read would be taken for the next request.
        headers = {"Connection": "close"} if status != 200 else None
        return Response(json.dumps(answer), status, headers, "application/json")

    async def _upload(self, request: Request) -> tuple[bytes, dict[str, str]]:
        """The JPEG and the form's other fields.  Raises BadRequest."""
        body = await self._body(request)
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "multipart/form-data":
            if not body:
                raise BadRequest(400, "an empty body: expected a JPEG, or a form with the field 'image'")
            return body, dict(request.query_params)

        async def whole() -> AsyncGenerator[bytes, None]:
            yield body

        try:
            form = await MultiPartParser(request.headers, whole(), max_files=4, max_fields=16).parse()
        except (MultiPartException, KeyError, ValueError) as error:
            raise BadRequest(400, f"not a form: {getattr(error, 'message', error)}") from None
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(form.close)
            uploads = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
            upload = uploads.get("image") or next(iter(uploads.values()), None)
            if upload is None:
                raise BadRequest(400, "no file in the form: expected the field 'image'")
            fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
            return await upload.read(), fields

    async def _body(self, request: Request) -> bytes:
        most = int(self.limits.upload_mb * 2**20)
        stated = request.headers.get("content-length", "0")
        if not stated.isdecimal() or len(stated) > 18:
            raise BadRequest(400, "Content-Length is not a number")
        refused = int(stated) > most
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > _DRAINED * most:
                break
            if refused or size > most:
                # Most clients send all before they read the answer: so it is taken in, up to a point, and dropped.
                refused, parts = True, []
            else:
                parts.append(part)
        if refused or size > most:
            raise BadRequest(413, f"a body of more than {self.limits.upload_mb:g} MiB")
        return b"".join(parts)


def _score(text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise BadRequest(400, "min_confidence: expected a number from 0 to 1")
    return value
