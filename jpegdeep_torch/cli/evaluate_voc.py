"""Pascal VOC's average precision of a detector, on VOC or any folder laid out like it.

jpegdeep eval voc WEIGHTS VOC_ROOT --year 2007 --set test
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.annotations import DatasetIssues
from ..data.voc import read_voc
from ..errors import ModelError
from ..evaluation.average_precision import precision_recall
from ..evaluation.records import voc_record
from ..evaluation.svg import bars, precision_recall_plot
from ..evaluation.voc import VocResult, evaluate_voc, write_submission
from ..inference.detector import Detector
from ..utils.text_table import text_table
from .common import detect_all, detector_galleries, evaluation_parser, finish, limited, load

_COLUMNS = {
    "name": "class", "objects": "objects", "detections": "detections", "hits": "hits",
    "ap_area": "AP (area)", "ap_11_points": "AP (11 points)", "ap_reference": "AP (Keras)",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    p = evaluation_parser(
        "jpegdeep eval voc", __doc__, "VOC_ROOT", "with VOCdevkit/VOC2007, VOC2007, or Annotations itself in it"
    )
    p.add_argument("--year", help="of a VOCdevkit: 2007, 2012")
    p.add_argument("--set", dest="image_set", default="test", help="of ImageSets/Main, or 'all' (default: %(default)s)")
    p.add_argument("--classes", nargs="+", metavar="NAME",
                   help="names of the network's classes, in label order (default: the weights file's)")  # fmt: skip
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--submission", metavar="DIR", help="write comp3_det_SET_CLASS.txt files there")
    args = p.parse_args(argv)
    detector = load(Detector, args, threshold=args.score)
    names = args.classes or detector.class_names
    if len(names) != detector.config.num_classes:
        raise ModelError(f"--classes: {len(names)} names, expected the network's {detector.config.num_classes}")
    issues = DatasetIssues(args.lenient)
    images = limited(read_voc(args.root, args.image_set, names, args.year, issues), args.limit)
    images, detections = detect_all(detector, images, issues)
    image_names = [image.name for image in images]
    result = evaluate_voc(images, detections, names)
    record = voc_record(result, image_names)
    table = [{title: row[key] for key, title in _COLUMNS.items()} for row in record[0]["classes"]]
    total = {"class": "mAP", "objects": "", "detections": "", "hits": ""}
    table.append(total | {_COLUMNS[f"ap_{kind}"]: value for kind, value in result.mean.items()})
    print(text_table(table))
    if args.submission:
        print(*write_submission(args.submission, args.image_set, image_names, detections, names), sep="\n")

    def page() -> dict[str, Any]:
        return {
            "title": f"{detector.config.name} on {args.image_set} of {args.root}",
            "headline": [("mAP, by area", result.mean["area"]), ("mAP, by 11 points", result.mean["11_points"])],
            "table": table,
            "plots": _plots(result),
            "galleries": detector_galleries(images, result.matches, names),
        }

    finish("eval.voc", args, detector, record, issues, page)


def _plots(result: VocResult) -> list[str]:
    plots = [bars(list(zip(result.class_names, result.ap["area"])))]
    for name, match, ap in zip(result.class_names, result.matches, result.ap["area"]):
        curve = precision_recall(match.outcomes, int(match.positives.sum()))
        plots.append(precision_recall_plot(f"{name}: {ap:.4f}", *curve))
    return plots
