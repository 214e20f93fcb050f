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

from eval.benchmark.photos import builtin_jpegs
from eval.benchmark.profiling import Cost, Profile, profile_detector, run_batches
from eval.benchmark.subjects import make_network
from jpegdeep_torch.backends import PRECISIONS, chosen_device, get_backend, list_backends
from jpegdeep_torch.cli.command import Parser, add_coefficients_argument, run_command
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.errors import DatasetError, ModelError
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.utils.text_table import aligned
from jpegdeep_torch.weights import read_info

TRACE, FIGURES = "trace.json", "profile.json"


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.profile", description=__doc__.splitlines()[0])
    p.add_argument("-o", "--output", required=True, metavar="DIR",
                   help=f"{TRACE} (for chrome://tracing or ui.perfetto.dev) and {FIGURES} go there")  # fmt: skip
    p.add_argument("--model", default="ssd300_vgg16_dct", help="a detector, with seeded weights (default: %(default)s)")
    p.add_argument("--weights", metavar="FILE", help="a safetensors file instead")
    p.add_argument("--images", metavar="DIR", help="JPEG files (default: 32 built-in photographs)")
    p.add_argument("--backend", default="torch", help=f"one of {', '.join(list_backends())}")
    p.add_argument("--batch-size", type=int, default=8, metavar="N")
    p.add_argument("--workers", type=int, metavar="N", help="processes that read JPEGs, 0 for none")
    p.add_argument("--batches", type=int, default=10, metavar="N", help="to record, after 2 (default: %(default)s)")
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    p.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    p.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    add_coefficients_argument(p)
    p.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    p.add_argument("--top", type=int, default=15, metavar="N", help="operators to print (default: %(default)s)")
    p.add_argument("--plain", action="store_true", help="run without torch.profiler, for nsys")
    p.add_argument("--seed", type=int, default=0)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    folder = _checked(args)
    sources = list_jpegs(args.images) if args.images else builtin_jpegs(seed=args.seed)
    name = read_info(args.weights).model if args.weights else args.model
    network = make_network(
        name, sources, weights=args.weights, coefficients=args.coefficients, decoder=args.decoder, seed=args.seed
    )
    detector = Detector(
        network.model, network.preset, chosen_device(args.device), args.backend, precision=args.precision,
        batch_size=args.batch_size, workers=args.workers, decoder=args.decoder,
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


def _checked(args: argparse.Namespace) -> Path:
    if not args.weights and model_config(args.model).task != "detector":
        raise ModelError(f"--model {args.model}: a classifier, expected a detector")
    get_backend(args.backend).require(chosen_device(args.device))
    for what in ("batches", "top", "threads"):
        if getattr(args, what) is not None and getattr(args, what) < 1:
            raise ModelError(f"--{what} {getattr(args, what)}: expected at least 1")
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be made a folder ({error.strerror or error})") from None
    return folder


def text(found: Profile, top: int) -> str:
    """Stages, then operators: milliseconds an image, and shares."""
    stages = _table("stage", found.stages, found.images, sum(c.cpu_ms for c in found.stages))
    whole = sum(c.cpu_ms + c.gpu_ms for c in found.operators)
    return "\n".join([*stages, "", *_table("operator", found.operators[:top], found.images, whole)])


def _table(what: str, costs: Sequence[Cost], images: int, whole: float) -> list[str]:
    rows = [[what, "calls", "CPU ms an image", "GPU ms an image", "share"]]
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
