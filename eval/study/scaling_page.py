"""The part of a study's page on how cost grows, on the predicted speed, and on what must hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eval.benchmark.markdown import aligned
from eval.benchmark.report import speed_text
from eval.benchmark.statistics import summary
from eval.study.feeding import cores_per_gpu
from eval.study.fits import Line
from eval.study.results import Rows, ratio_samples, wall_ms

_MEGAPIXELS = (0.1875, 2.0, 12.0)  # VOC's commonest size, a web photograph, a camera's
MEMORY_BAR_MIB, PREDICTION_BAR, RATIO_BAR, NMS_BAR, OVERLAP_BAR = 1.2 * 1024, 0.10, 2.0, 0.03, 0.05
LINEAR_BAR = 0.10  # a cost's largest distance from its line


def scaling_lines(scaling: Sequence[dict[str, Any]], prediction: dict[str, Any] | None) -> list[str]:
    """Scaling, then prediction, then what a GPU would need; as much of it as was measured."""
    lines = []
    if scaling:
        lines += ["", "## How cost grows", "", *aligned(_scaling(scaling))]
    if prediction:
        lines += ["", "## End-to-end speed, predicted from the parts", "", *_prediction(prediction)]
    laws = {
        row["coefficients"]: Line(row["fit"]["start"], row["fit"]["slope"], row["fit"]["spread"])
        for row in scaling
        if row["varies"] == "megapixels" and "reading" in row["cost"] and row["fit"]["kind"] == "line"
    }
    if {None, "native"} <= set(laws):
        lines += ["", "## CPU cores that feed one GPU", "", *_feeding(laws[None], laws["native"])]
    return lines


def _scaling(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    table = [["network", "coefficients by", "varies", "cost", "measured", "exponent", "grows as"]]
    for row in rows:
        points = ", ".join(f"{size:g}: {cost:.4g}" for size, cost in zip(row["sizes"], row["costs"]))
        kind = f"`{row['coefficients']}`" if row["coefficients"] else ""
        table.append([f"`{row['model']}`", kind, row["varies"], row["cost"], points,
                      *_law(row)])  # fmt: skip
    return table


def _law(row: dict[str, Any]) -> tuple[str, str]:
    """(the exponent, the law), the latter with its largest distance from a point where there are more than two."""
    fit, count = row["fit"], len(row["sizes"])
    if fit["kind"] == "one point":
        return "", ""
    law = "size to that" if fit["kind"] == "power" else f"{fit['start']:.4g} + {fit['slope']:.4g} a unit"
    return f"{fit['exponent']:.2f}", f"{law} (within {fit['spread']:.1%})" if count > 2 else f"{law} (two points)"


def _prediction(found: dict[str, Any]) -> list[str]:
    errors = [abs(row["error"]) for row in found["checked"]]
    within = sum(error <= PREDICTION_BAR for error in errors)
    host = found["host"]
    lines = [
        f"Fitted on {len(found['fitted'])} settings (a worker's reading holds the network up by {found['delay']:.2f} "
        f"of its time, handing over a batch {found['handover_ms']:.1f} ms, {host['threads']} threads on "
        f"{host['cores']} cores), held against {len(errors)} others: {within} within {PREDICTION_BAR:.0%}, median "
        f"error {summary(errors)['median']:.1%}, largest {max(errors):.1%}. The formula is in "
        "`eval/study/throughput_model.py`. Both speeds are of the undisturbed machine, the 90th percentile of "
        f"{len(found['checked'][0]['samples'])} rounds.", "",
    ]  # fmt: skip
    table = [["network", "batch", "workers", "image", "coefficients by", "median, images/s", "measured", "predicted",
              "error"]]  # fmt: skip
    for row in found["checked"]:
        size = f"{row['tiles'] * 500}x{row['tiles'] * 375}"
        table.append([row["network"], str(row["batch_size"]), str(row["workers"]), size,
                      f"`{row['coefficients']}`" if row["coefficients"] else "its own", speed_text(row["samples"], 1),
                      f"{row['measured']:.1f}", f"{row['predicted']:.1f}", f"{row['error']:+.1%}"])  # fmt: skip
    return lines + aligned(table)


def _feeding(rgb: Line, dct: Line) -> list[str]:
    table = [
        ["GPU", "RGB, images/s", "DCT, images/s", *(f"cores for RGB / DCT, {m:.2g} megapixels" for m in _MEGAPIXELS)]
    ]
    per_size = [cores_per_gpu(rgb, dct, m) for m in _MEGAPIXELS]
    for feedings in zip(*per_size):
        one = feedings[0]
        table.append([one.rate.gpu, f"{one.rate.rgb:.0f}", f"{one.dct_per_s:.0f}{' (*)' if one.extrapolated else ''}",
                      *(f"{f.rgb_cores:.1f} / {f.dct_cores:.1f}" for f in feedings)])  # fmt: skip
    sources = list(dict.fromkeys(f.rate.source for f in per_size[0]))
    return [
        *aligned(table), "",
        "Cores as this machine's; rates are of networks alone: " + "; ".join(sources) + ". NVIDIA's SSD300 has a "
        "ResNet-50 trunk. (*): not published; the rate for RGB times the GTX 1080's ratio.",
    ]  # fmt: skip


def bars(rows: Rows, scaling: Sequence[dict[str, Any]], prediction: dict[str, Any] | None) -> list[list[str]]:
    """What must hold on a CPU, with what was measured: the table's rows, a heading first."""
    table = [["what must hold", "measured", ""]]

    def held(what: str, value: str, met: bool) -> None:
        table.append([what, value, "met" if met else "MISSED"])

    for row in sorted(rows.rows, key=lambda row: row["batch_size"]):
        base = rows.beside(row, rows.rgb) if row["model"] in rows.dct[:1] and rows.rgb else None
        first = base and row["backend"] == rows.matrix.backends[0] and row["block"].startswith("core")
        if first and (row["stage"], row["nms"]) in (("model", False), ("e2e", True)):
            stage = "network alone" if row["stage"] == "model" else "end to end"
            ratio = ratio_samples(row, base)
            held(f"DCT/RGB, {stage}, batch {row['batch_size']}: at least {RATIO_BAR}", speed_text(ratio, 2),
                 summary(ratio)["median"] >= RATIO_BAR)  # fmt: skip
    for model in rows.dct[:1]:
        for size in sorted(rows.matrix.batch_sizes):
            _hold_batch(rows, model, size, held)
    for row in scaling:
        of_memory = row["varies"] == "batch" and row["cost"].startswith("MiB above")
        if row["model"] in rows.dct[:1] and of_memory and 8 in row["sizes"]:
            peak = row["costs"][row["sizes"].index(8)]
            held(f"peak memory of DCT, batch 8: under {MEMORY_BAR_MIB:.0f} MiB", f"{peak:.0f} MiB",
                 peak < MEMORY_BAR_MIB)  # fmt: skip
            held(f"its growth with the batch: linear, within {LINEAR_BAR:.0%}", _law(row)[1],
                 len(row["sizes"]) > 2 and row["fit"]["spread"] <= LINEAR_BAR)  # fmt: skip
    if prediction:
        good = sum(abs(row["error"]) <= PREDICTION_BAR for row in prediction["checked"])
        count = len(prediction["checked"])
        held(f"predicted end-to-end speed within {PREDICTION_BAR:.0%} for 10 settings not fitted",
             f"{good} of {count}", good == count >= 10)  # fmt: skip
    return table


def _hold_batch(rows: Rows, model: str, size: int, held: Callable[[str, str, bool], None]) -> None:
    """NMS's share, and what end to end reaches of the network alone."""
    whole = rows.find(model, "e2e", size, True)
    if whole:
        share = whole["stages_ms"]["nms"] / wall_ms(whole)
        held(f"NMS, of DCT's end-to-end time, batch {size}: at most {NMS_BAR:.0%}", f"{share:.1%}", share <= NMS_BAR)
    two = rows.find(model, "e2e", size, True, 2)
    alone = two and rows.find(model, "model", size, False, block=two["block"])
    if alone:
        reached = ratio_samples(two, alone)
        held(f"end to end with 2 workers over the network alone, batch {size}: at least {1 - OVERLAP_BAR:.2f}",
             speed_text(reached, 3), summary(reached)["median"] >= 1 - OVERLAP_BAR)  # fmt: skip
