"""Serve a detector over HTTP: the API of DeepStack and CodeProject.AI, and a page on which one drops a JPEG.

jpegdeep serve WEIGHTS --port 8000
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ModelError
from ..inference.detector import Detector
from .common import load, predictor_parser

LEAST_SCORE = 0.1  # that a client can ask for, whatever --score says


def main(argv: Sequence[str] | None = None) -> None:
    p = predictor_parser("jpegdeep serve", __doc__)
    p.add_argument("--host", default="127.0.0.1", help="where it listens; 0.0.0.0 for other machines (%(default)s)")
    p.add_argument("--port", type=int, default=8000, help="0 for any free one (default: %(default)s)")
    p.add_argument("--score", type=float, default=0.4, help="return scores of at least this (default: %(default)s)")
    p.add_argument("--max-upload-mb", type=float, default=32.0, metavar="MB", help="the largest file (%(default)s)")
    p.add_argument("--max-waiting", type=int, default=64, metavar="N",
                   help="requests under way at once; any more get 503 (default: %(default)s)")  # fmt: skip
    p.add_argument("--timeout", type=float, default=30.0, metavar="S",
                   help="seconds within which a request has to arrive (default: %(default)s)")  # fmt: skip
    args = p.parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise ModelError(f"--port {args.port}: expected 0 to 65535")
    for flag, value in (("--max-upload-mb", args.max_upload_mb), ("--max-waiting", args.max_waiting),
                        ("--timeout", args.timeout)):  # fmt: skip
        if not value > 0:
            raise ModelError(f"{flag} {value:g}: expected more than 0")
    from ..serving import Limits, create_app  # an extra, which nothing else here needs
    from ..serving.server import run_server

    detector = load(Detector, args, threshold=min(args.score, LEAST_SCORE))
    limits = Limits(args.max_upload_mb, args.timeout, args.max_waiting)
    run_server(create_app(detector, score=args.score, limits=limits), args.host, args.port, seconds=args.timeout)
