"""Which operators and stages the time goes to, for one setting: a Chrome trace, and a table of the costliest.

python -m eval.profile -o profile --model ssd300_vgg16_dct --batch-size 8
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from eval.benchmark.arguments import images_of, laboratory_parser, prepared_device
from eval.benchmark.markdown import aligned
from eval.benchmark.networks import make_network
from eval.benchmark.observers import NamedRanges
from eval.benchmark.profiling import Cost, ProfileResult, profile_detector, run_batches
from jpegdeep_torch.backends import list_backends
from jpegdeep_torch.cli.command import add_coefficients_argument, run_command
from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.weights import read_info

TRACE, FIGURES = "trace.json", "profile.json"


def parser() -> argparse.ArgumentParser:
    p = laboratory_parser("profile", __doc__)
    add_coefficients_argument(p)
    p.add_argument("-o", "--output", required=True, metavar="DIR",
                   help=f"{TRACE} (for chrome://tracing or ui.perfetto.dev) and {FIGURES} go there")  # fmt: skip
    p.add_argument("--model", default="ssd300_vgg16_dct", help="a detector, with seeded weights (default: %(default)s)")
    p.add_argument("--weights", metavar="FILE", help="a safetensors file instead")
    p.add_argument("--backend", default="torch", help=f"one of {', '.join(list_backends())}")
    p.add_argument("--batch-size", type=int, default=8, metavar="N")
    p.add_argument("--workers", type=int, metavar="N", help="processes that read JPEGs, 0 for none")
    p.add_argument("--batches", type=int, default=10, metavar="N", help="to record, after 2 (default: %(default)s)")
    p.add_argument("--top", type=int, default=15, metavar="N", help="operators to print (default: %(default)s)")
    p.add_argument("--plain", action="store_true", help="run without torch.profiler, for nsys")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    name = read_info(args.weights).model if args.weights else args.model
    device = prepared_device(args, [name], [args.backend], ("batches", "top"))
    folder, sources = _folder(args.output), images_of(args)
    network = make_network(
        name, sources, weights=args.weights, coefficients=args.coefficients, decoder=args.decoder, seed=args.seed
    )
    detector = network.detector(
        args.batch_size, device, args.backend, precision=args.precision, workers=args.workers,
        observer=NamedRanges(torch.device(device)),
    )  # fmt: skip
    with tqdm(total=args.batches, unit="batch", file=sys.stderr) as bar:
        if args.plain:
            run_batches(detector, sources, args.batches, bar.update)
            return
        found = profile_detector(detector, sources, args.batches, folder / TRACE, bar.update)
    about = {"model": name, "backend": args.backend, "device": str(detector.device), "batch_size": args.batch_size,
             "workers": detector.workers, "threads": torch.get_num_threads()}  # fmt: skip
    write_json(folder / FIGURES, run_header("eval.profile", vars(args)) | about | found.as_json())
    print(text(found, args.top))
    print(f"\n{folder / TRACE}: for chrome://tracing or ui.perfetto.dev")
    print(nsys_line(sys.argv[1:] if argv is None else argv))


def _folder(output: str) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be made a folder ({error.strerror or error})") from None
    return folder


def text(found: ProfileResult, top: int) -> str:
    """Stages, then operators: milliseconds per image, and shares."""
    stages = _table("stage", found.stages, found.images, sum(c.cpu_ms for c in found.stages))
    whole = sum(c.cpu_ms + c.gpu_ms for c in found.operators)
    return "\n".join([*stages, "", *_table("operator", found.operators[:top], found.images, whole)])


def _table(what: str, costs: Sequence[Cost], images: int, whole: float) -> list[str]:
    rows = [[what, "calls", "CPU ms per image", "GPU ms per image", "share"]]
    for cost in costs:
        share = (cost.cpu_ms if what == "stage" else cost.cpu_ms + cost.gpu_ms) / whole if whole else 0.0
        rows.append([cost.name, str(cost.calls), f"{cost.cpu_ms / images:.3f}", f"{cost.gpu_ms / images:.3f}",
                     f"{share:.1%}"])  # fmt: skip
    return aligned(rows)


def nsys_line(arguments: Sequence[str]) -> str:
    """The same run under Nsight Systems, where the stages are NVTX ranges."""
    return f"nsys profile --trace=cuda,nvtx,osrt -o study python -m eval.profile {shlex.join(arguments)} --plain"


if __name__ == "__main__":
    sys.exit(run_command(main))
