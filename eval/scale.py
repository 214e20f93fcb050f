"""Images per second and core of a job over shards, against the bare detector's, in turns; see docs/scale.md.

python -m eval.scale --weights WEIGHTS --images DIR
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.benchmark.arguments import images_of, laboratory_parser, prepared_device
from eval.benchmark.networks import make_network
from eval.benchmark.statistics import summary
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.data.shards import read_shard
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.jpeg.reader import source_bytes
from jpegdeep_torch.scale.job import predict_shards
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.weights import read_info


def parser() -> argparse.ArgumentParser:
    p = laboratory_parser("scale", __doc__)
    p.add_argument("--model", default="ssd300_vgg16_dct", help="a detector, with seeded weights (default: %(default)s)")
    p.add_argument("--width", type=float, default=0.25, help="of the seeded network (default: %(default)s)")
    p.add_argument("--weights", metavar="FILE", help="a safetensors file instead")
    p.add_argument("--files", type=int, default=160, help="of a shard (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--json", type=Path, metavar="FILE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    device = prepared_device(args, [] if args.weights else [args.model], ["torch"], ("files", "rounds", "batch_size"))
    if device != "cpu":
        raise ModelError(f"--device {device}: CPU time is what is measured, expected cpu")
    given = [source_bytes(source)[1] for source in images_of(args)]
    jpegs = [given[k % len(given)] for k in range(args.files)]
    name = read_info(args.weights).model if args.weights else args.model
    network = make_network(
        name, given[:8], weights=args.weights, decoder=args.decoder, seed=args.seed, width=args.width
    )
    detector = network.detector(args.batch_size, device, workers=0)
    samples: dict[str, list[float]] = {"reading the shard": [], "detector": [], "job": []}
    with tempfile.TemporaryDirectory() as folder:
        shard = _write_shard(Path(folder) / "shard.tar", jpegs)
        ways: dict[str, Callable[[], object]] = {
            "reading the shard": lambda: sum(1 for _ in read_shard(shard)),
            "detector": lambda: sum(1 for _ in detector.stream(jpegs, on_error="report")),
            "job": lambda: predict_shards(detector, [shard], f"{folder}/out", overwrite=True, part=(0, 1)),
        }
        for turn in range(args.rounds + 1):  # the first warms up
            for way, run in ways.items():
                began = time.process_time()
                run()
                if turn:
                    samples[way].append(args.files / (time.process_time() - began))
    results = [
        {"model": name, "way": way, "batch_size": args.batch_size, "files": args.files,
         "bytes_per_image": sum(map(len, jpegs)) / args.files, "images_per_s_per_core": summary(rates)}
        for way, rates in samples.items()
    ]  # fmt: skip
    ratios = summary([job / alone for job, alone in zip(samples["job"], samples["detector"])])
    for row in results:
        print(f"{row['way']:20} {row['images_per_s_per_core']['median']:10.1f} images/s per core, by CPU time")
    print(f"job / detector {ratios['median']:.3f} ({ratios['p10']:.3f} to {ratios['p90']:.3f})")
    if args.json:
        record = {"results": results, "ratios": [{"numerator": "job", "denominator": "detector", **ratios}]}
        write_json(args.json, run_header("eval.scale", vars(args)) | record)


def _write_shard(path: Path, jpegs: Sequence[bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for number, data in enumerate(jpegs):
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return str(path)


if __name__ == "__main__":
    sys.exit(run_command(main))
