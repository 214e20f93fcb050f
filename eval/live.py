"""How old a live stream's frames are when their boxes come out: a camera on loopback, and Detector.stream.

python -m eval.live --weights WEIGHTS
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from eval.benchmark.arguments import images_of, laboratory_parser, prepared_device
from eval.benchmark.mjpeg_server import Camera
from eval.benchmark.networks import make_network
from eval.benchmark.statistics import summary
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.jpeg.pixels import decode_rgb
from jpegdeep_torch.jpeg.reader import source_bytes
from jpegdeep_torch.jpeg.reencode import encode_jpeg
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.weights import read_info

QUALITY = 85
OLDEST = 2  # frames that may have been sent after the one whose boxes come out


def parser() -> argparse.ArgumentParser:
    p = laboratory_parser("live", __doc__)
    p.add_argument("--model", default="ssd300_vgg16_dct", help="a detector, with seeded weights (default: %(default)s)")
    p.add_argument("--width", type=float, default=0.25, help="of the seeded network (default: %(default)s)")
    p.add_argument("--weights", metavar="FILE", help="a safetensors file instead")
    p.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    p.add_argument("--fps", type=float, default=30.0, help="frames per second (default: %(default)g)")
    p.add_argument("--seconds", type=float, default=10.0, help="of the stream (default: %(default)g)")
    p.add_argument("--json", type=Path, metavar="FILE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    device = prepared_device(args, [] if args.weights else [args.model], ["torch"])
    if min(args.fps, args.seconds, *args.size) <= 0:
        raise ModelError("--fps, --seconds and --size: expected more than 0")
    photographs = (Image.fromarray(decode_rgb(source_bytes(source)[1])) for source in images_of(args))
    fitted = (ImageOps.fit(photograph, tuple(args.size)) for photograph in photographs)
    frames = [encode_jpeg(np.asarray(picture), QUALITY) for picture in fitted]
    name = read_info(args.weights).model if args.weights else args.model
    network = make_network(
        name, frames[:8], weights=args.weights, decoder=args.decoder, seed=args.seed, width=args.width
    )
    detector = network.detector(1, device, precision=args.precision, workers=0)
    detector.predict(frames[:3])  # what the first images alone cost
    ages, latencies_ms, dropped = [], [], 0
    with Camera(frames, max(1, round(args.fps * args.seconds)), args.fps) as camera:
        for prediction in detector.stream(camera.address):
            ages.append(camera.sent - 1 - prediction.frame.number)
            latencies_ms.append((time.monotonic() - camera.sent_s(prediction.frame.number)) * 1e3)
            dropped += prediction.frame.dropped
        sent = camera.sent
    result = {
        "model": name, "frames_per_s": args.fps, "sent": sent, "detected": len(ages), "dropped": dropped,
        "age_frames": {str(age): count for age, count in sorted(Counter(ages).items())},
        "older_than_two": sum(age > OLDEST for age in ages), "latency_ms": summary(latencies_ms),
    }  # fmt: skip
    print(f"{name}, {args.size[0]}x{args.size[1]} at {args.fps:g} frames/s: {sent} sent, {len(ages)} detected, "
          f"{dropped} dropped")  # fmt: skip
    for age, count in result["age_frames"].items():
        print(f"{count:6} came out {age} frames after they were sent")
    latency = result["latency_ms"]
    print(f"from sent to boxes {latency['median']:.0f} ms (median), {latency['p90']:.0f} (p90)")
    if args.json:
        write_json(args.json, run_header("eval.live", vars(args)) | {"results": [result]})


if __name__ == "__main__":
    sys.exit(run_command(main))
