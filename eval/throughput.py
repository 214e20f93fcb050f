"""Images per second, from JPEG bytes to boxes and of the network alone: what skipping the decoder is worth here.

python -m eval.throughput --backend torch
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from eval.benchmark.arguments import (
    DEFAULT_MODELS,
    add_backends,
    add_batch_sizes,
    images_of,
    laboratory_parser,
    prepared_device,
)
from eval.benchmark.candidates import BenchmarkCase, Candidate, Convolution, make_timed_detector
from eval.benchmark.measure import CaseResult, case_json, cases, measure
from eval.benchmark.networks import make_network
from eval.benchmark.photos import described
from eval.benchmark.plot import plot
from eval.benchmark.report import table
from eval.peers import PEERS, make_timed_peer
from jpegdeep_torch.cli.command import add_coefficients_argument, run_command
from jpegdeep_torch.data.reading import Source, read_bytes, source_name
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.inference.predictor import default_workers
from jpegdeep_torch.utils.environment import machine, run_header
from jpegdeep_torch.utils.files import write_json

BATCH_SIZES = {"cpu": (1, 8), "cuda": (8, 32, 128)}
SECONDS = 6.0


def parser() -> argparse.ArgumentParser:
    p = laboratory_parser("throughput", __doc__)
    add_backends(p, "--backend")
    add_batch_sizes(p, BATCH_SIZES)
    add_coefficients_argument(p)
    p.add_argument("--models", nargs="+", default=list(DEFAULT_MODELS), metavar="MODEL",
                   help="detectors to compare; ratios are to the first (default: %(default)s)")  # fmt: skip
    p.add_argument("--weights", nargs="+", default=[], metavar="MODEL=FILE",
                   help="safetensors files; other models get seeded weights")  # fmt: skip
    p.add_argument("--stage", choices=("model", "e2e", "both"), default="both")
    p.add_argument("--nms", choices=("on", "off", "both"), default="both",
                   help="behind the network; end to end always has it, so 'off' leaves the network alone")  # fmt: skip
    p.add_argument("--workers", type=int, help="processes that read JPEGs (default: 1 on a CPU, up to 8 on a GPU)")
    p.add_argument("--seconds", type=float, default=SECONDS, help="per case, at least 3 rounds (default: %(default)s)")
    p.add_argument("--peer", nargs="+", default=[], metavar="PEER", help=PEERS)
    p.add_argument("--json", metavar="FILE", help="write all samples there")
    p.add_argument("--plot", metavar="FILE", help="draw the figures there (.png, .svg or .pdf)")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    device = prepared_device(args, args.models, args.backend, ("batch_sizes",))
    plan, weights = _plan(args, device), _weights(args)
    sources = images_of(args)
    candidates = _candidates(args, sources, weights, device, [case.batch_size for case in plan])
    results = _measure_all(candidates, plan, args.seconds)
    images = f"{args.images} ({len(sources)} files)" if args.images else described(len(sources))
    print(table(results, candidates, images))
    if args.plot:
        plot(results, candidates, args.plot, f"{machine()['gpu' if device.startswith('cuda') else 'cpu']}, {images}")
    if args.json:
        _write_json(args, results, candidates)


def _plan(args: argparse.Namespace, device: str) -> list[BenchmarkCase]:
    """What the arguments ask for.  Raises ModelError."""
    if args.stage == "e2e" and args.nms == "off":
        raise ModelError("--stage e2e --nms off: end to end there is always NMS; expected --stage model, or --nms on")
    if args.seconds < 0:
        raise ModelError(f"--seconds {args.seconds}: expected 0 or more")
    workers = default_workers(device) if args.workers is None else args.workers
    if workers < 0:
        raise ModelError(f"--workers {workers}: expected 0 or more")
    return cases(
        ("model", "e2e") if args.stage == "both" else (args.stage,),
        args.batch_sizes or BATCH_SIZES[torch.device(device).type],
        (False, True) if args.nms == "both" else (args.nms == "on",),
        workers,
    )


def _weights(args: argparse.Namespace) -> dict[str, str]:
    """{model: its weights file}.  Raises ModelError."""
    weights = {}
    for item in args.weights:
        name, separator, file = item.partition("=")
        if not separator or name not in args.models:
            raise ModelError(f"--weights {item}: expected MODEL=FILE with a MODEL among {', '.join(args.models)}")
        weights[name] = file
    return weights


def _candidates(
    args: argparse.Namespace, sources: list[Source], weights: dict[str, str], device: str, batch_sizes: list[int]
) -> list[Candidate]:
    """Every network on every backend, the peers, and, where the network alone is timed, its largest convolution."""
    detectors = []
    with tqdm(total=len(args.models) * len(args.backend), desc="building", unit="network", file=sys.stderr) as bar:
        for name in args.models:
            network = make_network(
                name, sources, weights=weights.get(name), coefficients=args.coefficients, decoder=args.decoder,
                seed=args.seed,
            )  # fmt: skip
            for backend in args.backend:
                bar.set_description(f"building {name}, {backend}")
                alone = len(args.backend) == 1
                detectors.append(
                    make_timed_detector(network, backend, device, args.precision, batch_sizes, alone=alone)
                )
                bar.update()
    convolutions = [Convolution(one) for one in detectors] if args.stage != "e2e" and args.nms != "on" else []
    jpegs = [read_bytes(source, source_name(source, i)) for i, source in enumerate(sources)] if args.peer else []
    return detectors + [make_timed_peer(name, jpegs, device, args.seed) for name in args.peer] + convolutions


def _measure_all(candidates: list[Candidate], plan: list[BenchmarkCase], seconds: float) -> list[CaseResult]:
    results = []
    with tqdm(total=len(plan), unit="case", file=sys.stderr) as bar:
        for case in plan:
            bar.set_description(str(case))
            results.append(measure(candidates, case, seconds, on_round=bar.refresh))
            bar.update()
    return results


def _write_json(args: argparse.Namespace, results: list[CaseResult], candidates: list[Candidate]) -> None:
    report = run_header("eval.throughput", vars(args))
    report |= {"threads": torch.get_num_threads(), "results": [], "ratios": []}
    for result in results:
        rows, ratios = case_json(result, candidates)
        report["results"] += rows
        report["ratios"] += ratios
    write_json(args.json, report)


if __name__ == "__main__":
    sys.exit(run_command(main))
