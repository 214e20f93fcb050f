"""Images/s against mAP of trained detectors, each on its fastest backend, all timed in turn in one run.

python -m eval.pareto bccd runs/rgb/last.safetensors --voc BCCD --backend torch openvino --plot pareto.png
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.benchmark.arguments import add_backends, laboratory_parser, prepared_device
from eval.benchmark.axes import COLOURS, bare_axes
from eval.benchmark.candidates import BenchmarkCase, TimedDetector, make_timed_detector
from eval.benchmark.figures import new_figure, save_figure
from eval.benchmark.measure import CaseResult, measure
from eval.benchmark.networks import Network
from eval.benchmark.statistics import summary
from eval.peers import PEERS, make_timed_peer
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.data.annotations import AnnotatedImage, DatasetIssues
from jpegdeep_torch.data.reading import read_bytes
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.data.yolo import is_yolo, read_yolo
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.evaluation.voc import evaluate_voc
from jpegdeep_torch.inference.predictor import default_workers
from jpegdeep_torch.pretrained import load_model
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.utils.text_table import text_table

_RESAMPLES = 300  # of the images, for the interval of mAP
_SCORE = 0.01


@dataclass
class Point:
    """One detector: its fastest backend, speed and accuracy.  mAP None: another's, whose weights are not trained."""

    name: str
    model: str
    backend: str
    images_per_s: dict[str, float]
    mean_ap: float | None
    low: float | None
    high: float | None
    stages_ms: dict[str, float]


def main(argv: Sequence[str] | None = None) -> None:
    p = laboratory_parser("pareto", __doc__)
    p.add_argument("weights", nargs="+", metavar="WEIGHTS", help="of detectors of one data set: files, or names")
    p.add_argument("--voc", required=True, metavar="ROOT", help="a set in VOC's or YOLO's form: timed and evaluated on")
    p.add_argument("--set", dest="image_set", default="test", help="default: %(default)s")
    p.add_argument("--lenient", action="store_true", help="leave out boxes and pictures that cannot be used")
    add_backends(p, "--backend")
    p.add_argument("--peer", nargs="+", default=[], metavar="PEER", help=PEERS)
    p.add_argument("--batch-size", type=int, default=8, metavar="N")
    p.add_argument("--workers", type=int, metavar="N")
    p.add_argument("--seconds", type=float, default=60.0, help="of timing, for all together (default: %(default)s)")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--plot", metavar="FILE", help=".png, .svg or .pdf")
    args = p.parse_args(argv)
    device = prepared_device(args, (), args.backend, ("batch_size",))
    images, networks = _read(args)
    sources = [image.path for image in images]
    timed: list[TimedDetector] = []
    for name, network in networks.items():
        for backend in args.backend:
            one = make_timed_detector(network, backend, device, args.precision, [args.batch_size])
            one.label = f"{name}, {backend}"
            timed.append(one)
    jpegs = [read_bytes(source, str(source)) for source in sources] if args.peer else []
    peers = [make_timed_peer(name, jpegs, device, args.seed) for name in args.peer]
    workers = default_workers(device) if args.workers is None else args.workers
    case = BenchmarkCase("e2e", args.batch_size, True, workers)
    with tqdm(desc="timing", unit="round", file=sys.stderr) as bar:
        result = measure([*timed, *peers], case, args.seconds, on_round=bar.update)
    points = [_point(name, network, timed, result, images) for name, network in networks.items()]
    for peer in peers:
        speed = summary(result.images_per_s(peer.label))
        points.append(Point(peer.label, peer.label, "torch", speed, None, None, None, {}))
    print(_table(points))
    if args.plot:
        _plot(points, args.plot, f"{args.image_set} of {os.path.basename(os.path.abspath(args.voc))}, {args.precision}")
    if args.json:
        rows = {label: result.images_per_s(label) for label in result.samples}
        write_json(args.json, run_header("eval.pareto", vars(args)) | {
            "results": [vars(point) for point in points], "samples": rows,
        })  # fmt: skip


def _read(args: Any) -> tuple[list[AnnotatedImage], dict[str, Network]]:
    """(the data set's images, the networks by the names that the table gives them)."""
    models = {os.path.splitext(name)[0]: load_model(name, task="detector") for name in args.weights}
    names = {tuple(model.info.class_names or ()) for model in models.values()}
    if len(names) != 1 or () in names:
        raise ModelError(f"{' '.join(args.weights)}: expected the same class names in all, got {sorted(names)}")
    issues, (classes,) = DatasetIssues(args.lenient), names
    if is_yolo(args.voc):
        images = read_yolo(args.voc, args.image_set, list(classes), issues)
    else:
        images = read_voc(args.voc, args.image_set, list(classes), None, issues)
    sources = [image.path for image in images]
    networks = {
        name: Network(model, model.info.preparation(), sources, seeded=False, decoder=args.decoder)
        for name, model in models.items()
    }
    return images, networks


def _point(
    name: str, network: Network, timed: Sequence[TimedDetector], result: CaseResult, images: Sequence[AnnotatedImage]
) -> Point:
    """Evaluated as it was timed, on its fastest backend."""
    own = [one for one in timed if one.network is network]
    best = max(own, key=lambda one: summary(result.images_per_s(one.label))["median"])
    (detector,) = best.detectors.values()
    found = [p.value for p in detector.stream([image.path for image in images])]
    classes = list(network.model.info.class_names)

    def mean_ap(chosen: Sequence[int]) -> float:
        return evaluate_voc([images[i] for i in chosen], [found[i] for i in chosen], classes).mean["area"]

    everything = range(len(images))
    random = np.random.default_rng(0)
    drawn = [mean_ap(random.choice(everything, len(images))) for _ in range(_RESAMPLES)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    speed = summary(result.images_per_s(best.label))
    return Point(
        name, network.config.name, best.backend, speed, mean_ap(everything), float(low), float(high),
        result.stages_ms(best.label),
    )  # fmt: skip


def _table(points: Sequence[Point]) -> str:
    rows = []
    for point in sorted(points, key=lambda point: -point.images_per_s["median"]):
        accuracy = "" if point.mean_ap is None else f"{point.mean_ap:.3f} ({point.low:.3f} to {point.high:.3f})"
        speed = point.images_per_s
        rows.append({
            "detector": point.name, "network": point.model, "backend": point.backend,
            "images/s (p10 to p90)": f"{speed['median']:.1f} ({speed['p10']:.1f} to {speed['p90']:.1f})",
            "mAP (95% of draws)": accuracy,
        })  # fmt: skip
    return text_table(rows)


def _plot(points: Sequence[Point], path: str, title: str) -> None:
    """Speed to the right, accuracy upwards; a line along those that no other beats in both."""
    figure = new_figure(6.5, 4.2)
    (axes,) = bare_axes(figure)
    trained = sorted((p for p in points if p.mean_ap is not None), key=lambda p: -p.images_per_s["median"])
    front: list[Point] = []
    for i, point in enumerate(trained):
        x = point.images_per_s["median"]
        error = [[point.mean_ap - point.low], [point.high - point.mean_ap]]
        axes.errorbar(x, point.mean_ap, yerr=error, fmt="o", capsize=2, color=COLOURS[1 + i % 9])
        axes.annotate(
            f"{point.name} ({point.backend})", (x, point.mean_ap), (5, 5), textcoords="offset points", fontsize=8
        )
        if not front or point.mean_ap > front[-1].mean_ap:
            front.append(point)
    axes.plot([p.images_per_s["median"] for p in front], [p.mean_ap for p in front], lw=0.8, color=COLOURS[0])
    for point in points:
        if point.mean_ap is None:
            axes.axvline(point.images_per_s["median"], lw=0.8, ls=":", color=COLOURS[0], label=f"{point.name} (speed)")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("images/s, from JPEG bytes to boxes")
    axes.set_ylabel("mAP at IoU 0.5")
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


if __name__ == "__main__":
    sys.exit(run_command(main))
