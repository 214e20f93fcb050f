"""Pascal VOC's average precision of a detector, on VOC or any folder laid out like it.

jpegdeep eval voc WEIGHTS VOC_ROOT --year 2007 --set test
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..data.annotations import DatasetIssues
from ..data.voc import read_voc
from ..detection import NMSConfig
from ..errors import ModelError
from ..evaluation.average_precision import precision_recall
from ..evaluation.records import voc_record
from ..evaluation.report import false_positives, misses
from ..evaluation.svg import bars, precision_recall_plot
from ..evaluation.voc import VocResult, evaluate_voc, write_submission
from ..inference.detector import Detector
from ..utils.text_table import text_table
from .command import Parser
from .common import add_evaluation_arguments, add_predictor_arguments, detect_all, finish, limited, load


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="jpegdeep eval voc", description=__doc__.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a safetensors file")
    p.add_argument("root", metavar="VOC_ROOT", help="with VOCdevkit/VOC2007, VOC2007, or Annotations itself in it")
    p.add_argument("--year", help="of a VOCdevkit: 2007, 2012")
    p.add_argument("--set", dest="image_set", default="test", help="of ImageSets/Main, or 'all' (default: %(default)s)")
    p.add_argument("--classes", nargs="+", metavar="NAME",
                   help="names of the network's classes, in label order (default: the weights file's)")  # fmt: skip
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--submission", metavar="DIR", help="write comp3_det_SET_CLASS.txt files there")
    add_evaluation_arguments(p)
    add_predictor_arguments(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    detector = load(Detector, args, NMSConfig(score_threshold=args.score))
    names = args.classes or detector.class_names
    if len(names) != detector.config.num_classes:
        raise ModelError(f"--classes: {len(names)} names, expected the network's {detector.config.num_classes}")
    problems = DatasetIssues(args.lenient)
    images = limited(read_voc(args.root, args.image_set, names, args.year, problems), args.limit)
    images, detections = detect_all(detector, images, problems)
    result = evaluate_voc(images, detections, names)
    figures, samples = voc_record(result, [image.name for image in images])
    columns = {"name": "class", "objects": "objects", "detections": "detections", "hits": "hits",
               "ap_area": "AP (area)", "ap_11_points": "AP (11 points)", "ap_reference": "AP (Keras)"}  # fmt: skip
    rows = [{title: row[key] for key, title in columns.items()} for row in figures["classes"]]
    total = {"class": "mAP", "objects": "", "detections": "", "hits": ""}
    rows.append(total | dict(zip(list(columns.values())[4:], result.mean.values())))
    print(text_table(rows))
    if args.submission:
        for path in write_submission(args.submission, args.image_set, samples["names"], detections, names):
            print(path)
    page = {}
    if args.report:
        page = {
            "title": f"{detector.config.name} on {args.image_set} of {args.root}",
            "headline": [("mAP, by area", result.mean["area"]), ("mAP, by 11 points", result.mean["11_points"])],
            "table": rows,
            "plots": _plots(result),
            "galleries": [
                (
                    "Surest false detections (the nearest object in white)",
                    false_positives(images, result.matches, names),
                ),
                ("Largest objects missed", misses(images, result.matches, names)),
            ],
        }
    finish("eval.voc", args, detector, figures, samples, problems, page)


def _plots(result: VocResult) -> list[str]:
    plots = [bars(list(zip(result.class_names, result.ap["area"])))]
    for name, match, ap in zip(result.class_names, result.matches, result.ap["area"]):
        curve = precision_recall(match.outcomes, int(match.positives.sum()))
        plots.append(precision_recall_plot(f"{name}: {ap:.4f}", *curve))
    return plots
