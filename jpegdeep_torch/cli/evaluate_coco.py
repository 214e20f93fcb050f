"""COCO's twelve figures of a detector.

jpegdeep eval coco WEIGHTS COCO_ROOT --set val2017
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..data.annotations import DatasetIssues
from ..data.coco import read_coco
from ..detection import NMSConfig
from ..evaluation.coco import CocoResult, coco_results, evaluate_coco, find_evaluator
from ..evaluation.matching import match_all
from ..evaluation.records import coco_record
from ..evaluation.report import false_positives, misses
from ..evaluation.svg import bars, precision_recall_plot
from ..inference.detector import Detector
from ..utils.files import write_json
from ..utils.text_table import text_table
from .command import Parser
from .common import add_evaluation_arguments, add_predictor_arguments, detect_all, finish, limited, load


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="jpegdeep eval coco", description=__doc__.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a safetensors file")
    p.add_argument("root", metavar="COCO_ROOT", help="with annotations/instances_SET.json and SET/ or images/SET/")
    p.add_argument("--set", dest="image_set", default="val2017", help="default: %(default)s")
    p.add_argument("--annotations", metavar="FILE", help="the JSON, where it is not annotations/instances_SET.json")
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--evaluator", help="hotcoco or pycocotools (default: the first that is installed)")
    p.add_argument("--submission", metavar="FILE.json", help="write the results in COCO's format")
    add_evaluation_arguments(p)
    add_predictor_arguments(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    find_evaluator(args.evaluator)  # before hours of detecting
    detector = load(Detector, args, NMSConfig(score_threshold=args.score))
    problems = DatasetIssues(args.lenient)
    data = read_coco(args.root, args.image_set, detector.class_names, problems, args.annotations)
    id_of = {image.name: image_id for image, image_id in zip(data.images, data.image_ids)}
    images, detections = detect_all(detector, limited(data.images, args.limit), problems)
    image_ids = [id_of[image.name] for image in images]
    rows = coco_results(detections, image_ids, data.category_ids)
    result = evaluate_coco(data.annotation_file, rows, data.category_ids, data.class_names, image_ids, args.evaluator)
    figures, samples = coco_record(result, [image.name for image in images], image_ids)
    columns = {"name": "class", "objects": "objects", "detections": "detections", "ap": "AP", "ap50": "AP50"}
    table = [{title: row[key] for key, title in columns.items()} for row in figures["classes"]]
    print(text_table(table))
    print(text_table([{"figure": key, "value": value} for key, value in result.figures.items()]))
    if args.submission:
        write_json(args.submission, rows)
        print(args.submission)
    page = {}
    if args.report:
        # The pictures show mistakes at an IoU of 0.5; COCO's boxes have no border pixel to add.
        matches = match_all(images, detections, len(data.class_names), border_px=0.0)
        page = {
            "title": f"{detector.config.name} on {args.image_set} of {args.root}",
            "headline": [(key, result.figures[key]) for key in ("AP", "AP50", "AP75")],
            "table": table,
            "plots": _plots(result),
            "galleries": [
                ("Surest false detections at IoU 0.5", false_positives(images, matches, data.class_names)),
                ("Largest objects missed at IoU 0.5", misses(images, matches, data.class_names)),
            ],
        }
    finish("eval.coco", args, detector, figures, samples, problems, page)


def _plots(result: CocoResult) -> list[str]:
    plots = [bars(list(result.figures.items())), bars([(item.name, item.ap) for item in result.classes])]
    return plots + [precision_recall_plot(f"{c.name}, IoU 0.5: {c.ap50:.4f}", *c.curve50()) for c in result.classes]
