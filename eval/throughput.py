"""Images per second, from JPEG bytes to boxes and of the network alone: what skipping the decoder is worth here.

python -m eval.throughput --backend torch
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from eval.benchmark.measure import CaseResult, case_json, cases, measure
from eval.benchmark.photos import builtin_jpegs, described
from eval.benchmark.plot import plot
from eval.benchmark.report import table
from eval.benchmark.subjects import Convolution, Timed, make_network, make_timed_detector
from eval.peers import PEERS, make_timed_peer
from jpegdeep_torch.backends import PRECISIONS, chosen_device, get_backend, list_backends
from jpegdeep_torch.cli.command import Parser, add_coefficients_argument, run_command
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.data.reading import read_bytes, source_name
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.inference.predictor import default_workers
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.utils.environment import machine, run_header
from jpegdeep_torch.utils.files import write_json

DEFAULT_MODELS = ("ssd300_vgg16", "ssd300_vgg16_dct")
BATCH_SIZES = {"cpu": (1, 8), "cuda": (8, 32, 128)}
SECONDS = 6.0


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.throughput", description=__doc__.splitlines()[0])
    p.add_argument("--backend", nargs="+", default=["torch"], metavar="BACKEND",
                   help=f"one or several of {', '.join(list_backends())} (default: torch)")  # fmt: skip
    p.add_argument("--models", nargs="+", default=list(DEFAULT_MODELS), metavar="MODEL",
                   help="detectors to compare; ratios are to the first (default: %(default)s)")  # fmt: skip
    p.add_argument("--weights", nargs="+", default=[], metavar="MODEL=FILE",
                   help="safetensors files; other models get seeded weights")  # fmt: skip
    p.add_argument("--images", metavar="DIR", help="JPEG files (default: 32 built-in photographs)")
    p.add_argument("--batch-sizes", type=int, nargs="+", metavar="N",
                   help="default: 1 8 on a CPU, 8 32 128 on a GPU")  # fmt: skip
    p.add_argument("--stage", choices=("model", "e2e", "both"), default="both")
    p.add_argument("--nms", choices=("on", "off", "both"), default="both")
    p.add_argument("--workers", type=int, help="processes that read JPEGs (default: 1 on a CPU, up to 8 on a GPU)")
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    p.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    p.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    p.add_argument("--seconds", type=float, default=SECONDS, help="per case, at least 3 rounds (default: %(default)s)")
    add_coefficients_argument(p)
    p.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    p.add_argument("--peer", nargs="+", default=[], metavar="PEER", help=PEERS)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", metavar="FILE", help="write all samples there")
    p.add_argument("--plot", metavar="FILE", help="draw the figures there (.png, .svg or .pdf)")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    device = chosen_device(args.device)
    batch_sizes, workers, weights = _checked(args, device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    sources = list_jpegs(args.images) if args.images else builtin_jpegs(seed=args.seed)
    subjects = _subjects(args, sources, weights, device, batch_sizes)
    plan = cases(
        ("model", "e2e") if args.stage == "both" else (args.stage,),
        batch_sizes,
        (False, True) if args.nms == "both" else (args.nms == "on",),
        workers,
    )
    results = _measure_all(subjects, plan, args.seconds)
    pictures = f"{args.images} ({len(sources)} files)" if args.images else described(len(sources))
    print(table(results, subjects, pictures))
    if args.plot:
        box = machine()
        plot(
            results,
            subjects,
            args.plot,
            f"{box['gpu'] if device.startswith('cuda') else box['cpu']}, {pictures}",
        )
    if args.json:
        _write_json(args, results, subjects)


def _subjects(
    args: argparse.Namespace, sources: list, weights: dict[str, str], device: str, batch_sizes: tuple[int, ...]
) -> list[Timed]:
    """Every network on every backend, the peers, and, where the network alone is timed, its largest convolution."""
    subjects: list[Timed] = []
    with tqdm(total=len(args.models) * len(args.backend), desc="building", unit="network", file=sys.stderr) as bar:
        for name in args.models:
            network = make_network(
                name,
                sources,
                weights=weights.get(name),
                coefficients=args.coefficients,
                decoder=args.decoder,
                seed=args.seed,
            )
            for backend in args.backend:
                bar.set_description(f"building {name}, {backend}")
                alone = len(args.backend) == 1
                subjects.append(make_timed_detector(network, backend, device, args.precision, batch_sizes, alone=alone))
                bar.update()
    convolutions = [Convolution(subject) for subject in subjects] if args.stage != "e2e" and args.nms != "on" else []
    jpegs = [read_bytes(source, source_name(source, i)) for i, source in enumerate(sources)] if args.peer else []
    peers = [make_timed_peer(name, jpegs, device, args.seed) for name in args.peer]
    return subjects + peers + convolutions


def _checked(args: argparse.Namespace, device: str) -> tuple[tuple[int, ...], int, dict[str, str]]:
    for name in args.models:
        if model_config(name).task != "detector":
            raise ModelError(f"--models {name}: a classifier, expected a detector")
    for backend in args.backend:
        get_backend(backend).require(device)
    batch_sizes = tuple(args.batch_sizes or BATCH_SIZES[torch.device(device).type])
    for size in batch_sizes:
        if size < 1:
            raise ModelError(f"--batch-sizes {size}: expected at least 1")
    if args.seconds < 0 or (args.threads is not None and args.threads < 1):
        raise ModelError("--seconds and --threads must be positive")
    workers = args.workers
    if workers is None:
        workers = default_workers(device)
    if workers < 0:
        raise ModelError(f"--workers {workers}: expected 0 or more")
    weights = {}
    for item in args.weights:
        name, separator, file = item.partition("=")
        if not separator or name not in args.models:
            raise ModelError(f"--weights {item}: expected MODEL=FILE with a MODEL among {', '.join(args.models)}")
        weights[name] = file
    return batch_sizes, workers, weights


def _measure_all(subjects: list, plan: list, seconds: float) -> list[CaseResult]:
    results = []
    with tqdm(total=len(plan), unit="case", file=sys.stderr) as bar:
        for case in plan:
            bar.set_description(str(case))
            results.append(measure(subjects, case, seconds, on_round=bar.refresh))
            bar.update()
    return results


def _write_json(args: argparse.Namespace, results: list[CaseResult], subjects: list) -> None:
    report = run_header("eval.throughput", vars(args))
    report |= {"threads": torch.get_num_threads(), "results": [], "ratios": []}
    for result in results:
        rows, ratios = case_json(result, subjects)
        report["results"] += rows
        report["ratios"] += ratios
    write_json(args.json, report)


if __name__ == "__main__":
    sys.exit(run_command(main))
