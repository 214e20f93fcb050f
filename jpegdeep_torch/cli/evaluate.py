"""`jpegdeep eval`: figures of a detector on VOC or COCO, and of a classifier on ImageNet or folders laid out like it.

jpegdeep eval voc WEIGHTS VOC_ROOT --year 2007 --set test
jpegdeep eval coco WEIGHTS COCO_ROOT --set val2017
jpegdeep eval imagenet WEIGHTS ROOT
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.annotations import AnnotatedImage, DatasetIssues
from ..data.coco import as_coco_set, coco_results, read_coco
from ..data.imagenet import read_imagenet
from ..data.voc import read_voc
from ..data.yolo import is_yolo, read_yolo
from ..errors import DatasetError, ModelError
from ..evaluation.average_precision import precision_recall
from ..evaluation.coco import evaluate_coco, find_evaluator
from ..evaluation.imagenet import evaluate_imagenet
from ..evaluation.matching import ClassMatches, match_all
from ..evaluation.records import Record, coco_record, imagenet_record, make_record, voc_record
from ..evaluation.report import false_positives, misses, write_report, wrong_classes
from ..evaluation.svg import bars, precision_recall_plot
from ..evaluation.voc import evaluate_voc, write_submission
from ..inference.classifier import Classifier
from ..inference.detector import Detector
from ..inference.predictor import Predictor
from ..jpeg import WarningCounts
from ..jpeg.options import ORIENTATIONS
from ..utils.files import write_json
from ..utils.text_table import text_table
from .command import Parser
from .common import limited, load, predictor_parser, print_warnings, progress_bar, run_settings

_VOC_COLUMNS = {
    "name": "class", "objects": "objects", "detections": "detections", "hits": "hits",
    "ap_area": "AP (area)", "ap_11_points": "AP (11 points)", "ap_reference": "AP (Keras)",
}  # fmt: skip
_COCO_COLUMNS = {"name": "class", "objects": "objects", "detections": "detections", "ap": "AP", "ap50": "AP50"}
Page = tuple[Any, Any, Any, Any]  # headline, table, plots and galleries of `write_report`


def voc(argv: Sequence[str] | None = None) -> None:
    """Pascal VOC's average precision of a detector, on VOC, a folder laid out like it, or a YOLO set."""
    p = _parser(voc, "ROOT", "with VOCdevkit/VOC2007, VOC2007, Annotations itself, or YOLO's data.yaml in it")
    p.add_argument("--year", help="of a VOCdevkit: 2007, 2012")
    p.add_argument(
        "--set",
        dest="image_set",
        default="test",
        help="of ImageSets/Main, or 'all'; of YOLO train, val or test (default: %(default)s)",
    )
    p.add_argument("--classes", nargs="+", metavar="NAME",
                   help="names of the network's classes, in label order (default: the weights file's)")  # fmt: skip
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--submission", metavar="DIR", help="write comp3_det_SET_CLASS.txt files there")
    _add_orientation(p)
    args = p.parse_args(argv)
    detector = load(Detector, args, threshold=args.score)
    names = args.classes or detector.class_names
    if len(names) != detector.config.num_classes:
        raise ModelError(f"--classes: {len(names)} names, expected the network's {detector.config.num_classes}")
    issues = DatasetIssues(args.lenient)
    options = {"orientation": args.set_orientation, "options": detector.reader.options}
    if is_yolo(args.root):
        images = read_yolo(args.root, args.image_set, names, issues, **options)
    else:
        images = read_voc(args.root, args.image_set, names, args.year, issues, **options)
    images = limited(images, args.limit)
    indices, detections = _predict_all(detector, [image.path for image in images], issues)
    images = [images[index] for index in indices]
    image_names = [image.name for image in images]
    result = evaluate_voc(images, detections, names)
    record = voc_record(result, image_names)
    table = [{title: row[key] for key, title in _VOC_COLUMNS.items()} for row in record[0]["classes"]]
    total = {"class": "mAP", "objects": "", "detections": "", "hits": ""}
    table.append(total | {_VOC_COLUMNS[f"ap_{kind}"]: value for kind, value in result.mean.items()})
    print(text_table(table))
    if args.submission:
        print(*write_submission(args.submission, args.image_set, image_names, detections, names), sep="\n")

    def page() -> Page:
        plots = [bars(list(zip(names, result.ap["area"])))]
        for name, match, ap in zip(names, result.matches, result.ap["area"]):
            curve = precision_recall(match.outcomes, int(match.positives.sum()))
            plots.append(precision_recall_plot(f"{name}: {ap:.4f}", *curve))
        headline = [("mAP, by area", result.mean["area"]), ("mAP, by 11 points", result.mean["11_points"])]
        return headline, table, plots, _galleries(images, result.matches, names, detector)

    _finish("eval.voc", args, detector, record, issues, page)


def coco(argv: Sequence[str] | None = None) -> None:
    """COCO's twelve figures of a detector."""
    p = _parser(coco, "ROOT", "with annotations/instances_SET.json and SET/ or images/SET/, or with YOLO's data.yaml")
    p.add_argument("--set", dest="image_set", default="val2017", help="default: %(default)s")
    p.add_argument("--annotations", metavar="FILE", help="the JSON, where it is not annotations/instances_SET.json")
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--evaluator", help="hotcoco or pycocotools (default: the first that is installed)")
    p.add_argument("--submission", metavar="FILE.json", help="write the results in COCO's format")
    _add_orientation(p)
    args = p.parse_args(argv)
    find_evaluator(args.evaluator)  # before hours of detecting
    detector = load(Detector, args, threshold=args.score)
    issues = DatasetIssues(args.lenient)
    options = {"orientation": args.set_orientation, "options": detector.reader.options}
    if is_yolo(args.root):
        found = read_yolo(args.root, args.image_set, detector.class_names, issues, **options)
        data = as_coco_set(found, detector.class_names)
    else:
        data = read_coco(args.root, args.image_set, detector.class_names, issues, args.annotations, **options)
    images = limited(data.images, args.limit)
    indices, detections = _predict_all(detector, [image.path for image in images], issues)
    images, image_ids = [images[index] for index in indices], [data.image_ids[index] for index in indices]
    results = coco_results(detections, image_ids, data.category_ids)
    classes = data.category_ids, data.class_names
    result = evaluate_coco(data.annotations, results, *classes, image_ids, args.evaluator)
    record = coco_record(result, [image.name for image in images], image_ids)
    table = [{title: row[key] for key, title in _COCO_COLUMNS.items()} for row in record[0]["classes"]]
    print(text_table(table))
    print(text_table([{"figure": key, "value": value} for key, value in result.figures.items()]))
    if args.submission:
        write_json(args.submission, results)
        print(args.submission)

    def page() -> Page:
        # The images show mistakes at an IoU of 0.5; COCO's boxes have no border pixel to add.
        matches = match_all(images, detections, len(data.class_names), border_px=0.0)
        plots = [bars(list(result.figures.items())), bars([(item.name, item.ap) for item in result.classes])]
        plots += [precision_recall_plot(f"{c.name}, IoU 0.5: {c.ap50:.4f}", *c.curve50()) for c in result.classes]
        headline = [(key, result.figures[key]) for key in ("AP", "AP50", "AP75")]
        return headline, table, plots, _galleries(images, matches, data.class_names, detector)

    _finish("eval.coco", args, detector, record, issues, page)


def imagenet(argv: Sequence[str] | None = None) -> None:
    """Top-1 and top-5 of a classifier, RGB or DCT, from a folder for each class."""
    p = _parser(imagenet, "ROOT", "a folder with a folder of JPEGs for each class")
    p.add_argument("--class-index", metavar="FILE",
                   help="which folder is which class: Keras's imagenet_class_index.json, a JSON list, or a text file "
                        "with a folder per line (default: the folders, sorted)")  # fmt: skip
    args = p.parse_args(argv)
    classifier = load(Classifier, args)
    data = read_imagenet(args.root, classifier.config.num_classes, args.class_index)
    issues = DatasetIssues(args.lenient)
    indices, found = _predict_all(classifier, limited(data.paths, args.limit), issues)
    paths, labels = [data.paths[index] for index in indices], [data.labels[index] for index in indices]
    predictions, probabilities = (np.stack([f[key].numpy() for f in found]) for key in ("classes", "probabilities"))
    result = evaluate_imagenet(predictions, probabilities, labels)
    record = imagenet_record(result, [str(path.relative_to(args.root)) for path in paths], data.class_names)
    classes = record[0]["classes"]
    print(text_table([{"images": len(paths), "top-1": result.top1, "top-5": result.top5}]))

    def page() -> Page:
        worst = sorted(classes, key=lambda row: row["top1"])[:50]
        galleries = [
            ("Surest mistakes", wrong_classes(paths, result, data.class_names, options=classifier.reader.options))
        ]
        headline = [("top-1", result.top1), ("top-5", result.top5)]
        return headline, classes, [bars([(row["name"], row["top1"]) for row in worst])], galleries

    _finish("eval.imagenet", args, classifier, record, issues, page)


def _parser(command: Callable[..., None], root: str, root_help: str) -> Parser:
    """What the commands share: the network, the data set's folder, and where the outcome goes."""
    p = predictor_parser(f"jpegdeep eval {command.__name__}", str(command.__doc__))
    p.add_argument("root", metavar=root, help=root_help)
    p.add_argument("--json", metavar="FILE", help="write figures and samples there, for `compare` too")
    p.add_argument("--report", metavar="DIR", help="write DIR/index.html: figures, plots, the worst mistakes")
    p.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    p.add_argument("--lenient", action="store_true", help="count what is wrong with the data set and go on")
    return p


def _add_orientation(p: Parser) -> None:
    p.add_argument("--set-orientation", choices=ORIENTATIONS,
                   help="whether the annotations are of the upright pictures (apply) or of the stored ones (default: "
                        "what the sizes in them fit; of YOLO apply)")  # fmt: skip


def _predict_all(
    predictor: Predictor, paths: list[Path], issues: DatasetIssues
) -> tuple[list[int], list[dict[str, Any]]]:
    """(indices of the images that can be read, what was found in each); the others go to `issues`."""
    indices, found, warnings = [], [], WarningCounts()
    for prediction in progress_bar(predictor.stream(paths, on_error="report"), total=len(paths), desc="predicting"):
        if prediction.error is not None:
            issues.report("unreadable picture", str(prediction.error))
        else:
            indices.append(prediction.index)
            found.append(prediction.value)
            warnings.add(prediction.name, prediction.warnings)
    print_warnings(warnings)
    if not found:
        raise DatasetError("no picture of the data set can be read")
    return indices, found


def _galleries(
    images: list[AnnotatedImage], matches: list[ClassMatches], class_names: Sequence[str], detector: Detector
) -> list[Any]:
    """A report's images of a detector's worst mistakes."""
    options = detector.reader.options
    false, missed = (make(images, matches, class_names, options=options) for make in (false_positives, misses))
    heading = "Surest false detections at IoU 0.5 (the nearest object in white)"
    return [(heading, false), ("Largest objects missed at IoU 0.5", missed)]


def _finish(
    command: str,
    args: argparse.Namespace,
    predictor: Predictor,
    figures_and_samples: tuple[Record, Record],
    issues: DatasetIssues,
    page: Callable[[], Page],
) -> None:
    """Writes the JSON and the report that were asked for, and says what was wrong with the data."""
    figures, samples = figures_and_samples
    figures = {**figures, **run_settings(args, predictor), "problems": dict(issues.counts)}
    record = make_record(command, vars(args), figures, samples)
    for line in issues.summary():
        print(line, file=sys.stderr)
    if args.json:
        write_json(args.json, record)
    if args.report:
        settings = {"command": command} | {k: v for k, v in figures.items() if k not in ("classes", "figures")}
        settings |= {f"--{k.replace('_', '-')}": v for k, v in record["arguments"].items() if v is not None}
        settings |= record["machine"] | record["versions"]
        title = f"{predictor.config.name} on {f'{args.image_set} of ' if 'image_set' in args else ''}{args.root}"
        print(write_report(args.report, title, *page(), settings))
