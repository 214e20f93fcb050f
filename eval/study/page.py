"""A study as a Markdown page: tables, and in words which stage binds, what its removal would bring, what is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.benchmark.markdown import aligned
from eval.benchmark.report import speed_text
from eval.benchmark.statistics import summary
from eval.study.results import Row, Rows, binding, ratio_samples, reading_ms, stage_times, wall_ms
from jpegdeep_torch.models import model_config

GTX_1080 = {  # the Keras originals on a GTX 1080, images/s from preloaded tensors: batch -> by (network, NMS)
    8: {("dct", True): 101.9, ("rgb", True): 69.8, ("dct", False): 146.9, ("rgb", False): 91.9},
    32: {("dct", True): 152.2, ("rgb", True): 90.9, ("dct", False): 227.0, ("rgb", False): 108.7},
    128: {("dct", True): 166.3, ("rgb", True): 93.9, ("dct", False): 242.3, ("rgb", False): 107.6},
}
_NAMED = 5  # settings, or files, named in a list; the others are counted
_COLUMNS = (("dct", True), ("rgb", True), ("dct", False), ("rgb", False))


def matrix_page(
    rows: Rows, settings: dict[str, Any], missing: Sequence[str], command: str, left_out: Sequence[str] = ()
) -> list[str]:
    """The lines of the part on the matrix: verdict first, tables after."""
    lines = _heading(rows, settings, missing, command, left_out)
    if told := verdict(rows):
        lines += ["", "## Verdict", "", *told]
    for title, table in (
        ("Images/s from preloaded tensors, beside the Keras originals on a GTX 1080", _preloaded(rows)),
        ("Images/s from JPEG bytes to boxes, with NMS", _end_to_end(rows)),
        ("DCT over RGB, round by round", _ratios(rows)),
        ("Milliseconds an image, by stage, end to end", _stages(rows)),
        ("Backends", _backends(rows)),
        ("Other people's detectors", _peers(rows)),
    ):
        if len(table) > 1:
            lines += ["", f"## {title}", "", *aligned(table)]
    return lines


def _heading(
    rows: Rows, settings: dict[str, Any], missing: Sequence[str], command: str, left_out: Sequence[str]
) -> list[str]:
    box, setting, installed = settings["machine"], settings["setting"], settings["versions"]
    where = box["gpu"] if setting["device"].startswith("cuda") else f"{box['cpu']}, {box['cores']} cores"
    lines = [
        "# Where the time goes", "",
        f"{where}, {settings['threads']} threads of PyTorch; torch {installed['torch']}; {setting['precision']}; "
        f"images: {settings['images']['what']}. {_rounds(rows)}Command:", "", f"    {command}",
    ]  # fmt: skip
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}. The same command goes on with them."]
    if left_out:
        more = [f"and {len(left_out) - _NAMED} more"] if len(left_out) > _NAMED else []
        lines += ["", "Left out, for all networks:", "", *(f"- {line}" for line in [*left_out[:_NAMED], *more])]
    return lines


def _rounds(rows: Rows) -> str:
    counts = sorted({len(row["samples"]) for row in rows.rows})
    if not counts:
        return ""
    spread = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"Figures are medians, with the 10th and the 90th percentile, of {spread} rounds. "


def verdict(rows: Rows) -> list[str]:
    """What a user wants to know, in sentences."""
    matrix = rows.matrix
    lines = [f"- {_binds(rows, model)}" for model in rows.detectors if _base(rows, model)]
    base = _base(rows, rows.rgb) if rows.rgb else None
    for model in rows.dct:
        row = _base(rows, model)
        if not base or not row:
            continue
        alone = [rows.find(m, "model", matrix.base_batch, False) for m in (model, rows.rgb)]
        lines.append(
            f"- Skipping the decoder: `{model}` does {speed_text(ratio_samples(row, base), 2)} times the images of "
            f"`{rows.rgb}` from JPEG bytes to boxes, {speed_text(ratio_samples(*alone), 2)} times as a network alone."
        )
        b = binding(row)
        lines.append(
            f"- Were its {b.stage} free, that ratio would be up to {wall_ms(base) / b.without_ms:.2f}; were "
            f"the same so for `{rows.rgb}`, whose {binding(base).stage} binds, "
            f"{binding(base).without_ms / b.without_ms:.2f}."
        )
        lines += _dct_details(rows, model, row)
    lines += [f"- {told}" for model in rows.detectors if (told := _best(rows, model))]
    return lines


def _base(rows: Rows, model: str) -> Row | None:
    return rows.find(model, "e2e", rows.matrix.base_batch, True)


def _binds(rows: Rows, model: str) -> str:
    row = _base(rows, model)
    b = binding(row)
    data = f"; a worker reads an image in {reading_ms(row):.1f} ms meanwhile" if row["workers"] else ""
    return (
        f"`{model}`, end to end, batch {row['batch_size']}, {row['workers']} worker(s), {row['backend']}: "
        f"{speed_text(row['samples'], 1)} images/s. **The {b.stage} binds**: on average {b.stage_ms:.1f} of "
        f"{b.wall_ms:.1f} ms an image ({b.share:.1%}){data}. Were it free: {1e3 / b.without_ms:.0f} images/s."
    )


def _dct_details(rows: Rows, model: str, row: Row) -> list[str]:
    lines = [f"- NMS takes {row['stages_ms']['nms'] / wall_ms(row):.1%} of the end-to-end time of `{model}`."]
    reached = []
    for workers in sorted(rows.matrix.workers):
        whole = rows.among_workers(model, row["batch_size"], workers)
        alone = whole and rows.find(model, "model", row["batch_size"], False, block=whole["block"])
        if alone:
            reached.append(f"{speed_text(ratio_samples(whole, alone), 3)} with {workers}")
    if reached:
        lines.append(
            f"- Workers: of the speed of `{model}` as a network alone, end to end reaches {', '.join(reached)}."
        )
    return lines


def _best(rows: Rows, model: str) -> str:
    """The fastest setting, and those that it cannot be told apart from; '' where no end-to-end row is there."""
    matrix = rows.matrix
    kinds = matrix.coefficients if model_config(model).is_dct else (None,)
    own = [
        row
        for size in matrix.batch_sizes for backend in matrix.backends for kind in kinds for workers in matrix.workers
        if (row := rows.find(model, "e2e", size, True, workers, kind, backend))
    ]  # fmt: skip
    if not own:
        return ""
    own.sort(key=lambda row: -row["images_per_s"]["median"])
    best, least = own[0], summary(own[0]["samples"])["p10"]
    near = [row for row in own[1:] if row["images_per_s"]["median"] >= least]
    text = f"The best setting for `{model}` here: {_setting(best)}: {speed_text(best['samples'], 1)} images/s."
    if near:
        named = "; ".join(_setting(row) for row in near[:_NAMED])
        more = f"; and {len(near) - _NAMED} more" if len(near) > _NAMED else ""
        text += f" No slower than its 10th percentile: {named}{more}."
    return text


def _setting(row: Row) -> str:
    kind = f", `{row['coefficients']}`" if row["coefficients"] else ""
    return f"{row['backend']}, batch {row['batch_size']}, {row['workers']} worker(s){kind}"


def _preloaded(rows: Rows) -> list[list[str]]:
    table = [["batch", "where", "DCT, NMS", "RGB, NMS", "DCT, no NMS", "RGB, no NMS", "ratio, NMS", "ratio, no NMS"]]
    pair = {"dct": next(iter(rows.dct), None), "rgb": rows.rgb}
    for size in sorted({*rows.matrix.batch_sizes, *GTX_1080}):
        here = {k: rows.find(pair[k[0]], "model", size, k[1]) if pair[k[0]] else None for k in _COLUMNS}
        if any(here.values()):
            ratios = [_ratio(here["dct", nms], here["rgb", nms]) for nms in (True, False)]
            table.append([str(size), "here", *(_speed(row) for row in here.values()), *ratios])
        if size in GTX_1080:
            speeds = GTX_1080[size]
            ratios = [f"{speeds['dct', nms] / speeds['rgb', nms]:.2f}" for nms in (True, False)]
            table.append([str(size), "GTX 1080", *(f"{speeds[k]:.1f}" for k in _COLUMNS), *ratios])
    return table


def _end_to_end(rows: Rows) -> list[list[str]]:
    """A line a setting, a column a network."""
    table = [["batch", "backend", "workers", "coefficients by", *rows.detectors]]
    matrix = rows.matrix
    for size in sorted(matrix.batch_sizes):
        for backend in matrix.backends:
            for kind in matrix.coefficients:
                for workers in sorted(matrix.workers):
                    found = [
                        rows.find(m, "e2e", size, True, workers, kind, backend)
                        if model_config(m).is_dct or kind == matrix.coefficients[0]
                        else None
                        for m in rows.detectors
                    ]
                    if any(found):
                        table.append([str(size), backend, str(workers), f"`{kind}`", *(_speed(r) for r in found)])
    return table


def ratio_pairs(rows: Rows) -> list[tuple[Row, Row]]:
    """(row of a DCT network, row of the RGB one beside it) of each setting once; end to end with NMS only."""
    found: dict[tuple, tuple[Row, Row]] = {}
    for row in rows.rows:
        base = rows.beside(row, rows.rgb) if row["model"] in rows.dct and rows.rgb else None
        if base and (row["nms"] or row["stage"] == "model"):
            setting = ("stage", "batch_size", "nms", "workers", "coefficients", "backend", "model")
            found.setdefault(tuple(row[key] for key in setting), (row, base))
    matrix = rows.matrix

    def order(pair: tuple[Row, Row]) -> tuple:
        row, _ = pair
        places = [getattr(matrix, key).index(row[name])
                  for key, name in (("models", "model"), ("backends", "backend"), ("coefficients",) * 2)]  # fmt: skip
        return *places[:2], row["stage"] == "e2e", row["batch_size"], places[2], row["nms"], row["workers"]

    return sorted(found.values(), key=order)


def _ratios(rows: Rows) -> list[list[str]]:
    table = [["", "batch", "NMS", "workers", "coefficients by", "backend", "DCT network", "DCT / RGB", "rounds"]]
    for row, base in ratio_pairs(rows):
        e2e = row["stage"] == "e2e"
        where = [str(row["workers"]), f"`{row['coefficients']}`"] if e2e else ["", ""]
        stage, nms = "end to end" if e2e else "network alone", "yes" if row["nms"] else "no"
        ratio = ratio_samples(row, base)
        table.append([stage, str(row["batch_size"]), nms, *where, row["backend"], f"`{row['model']}`",
                      speed_text(ratio, 2), str(len(ratio))])  # fmt: skip
    return table


def stage_rows(rows: Rows) -> list[Row]:
    """The base's end-to-end rows, and those of the other kinds of coefficients: of each network one a kind."""
    matrix = rows.matrix
    kinds = {model: matrix.coefficients if model_config(model).is_dct else (None,) for model in rows.detectors}
    found = [
        rows.find(m, "e2e", matrix.base_batch, True, coefficients=kind) for m in rows.detectors for kind in kinds[m]
    ]
    return [row for row in found if row]


def _stages(rows: Rows) -> list[list[str]]:
    shown = stage_rows(rows)
    names = [f"`{r['model']}`" + (f", `{r['coefficients']}`" if r["coefficients"] else "") for r in shown]
    if not shown:
        return [[]]
    table = [[f"batch {shown[0]['batch_size']}, {shown[0]['workers']} worker(s)", *names]]
    times = [stage_times(row) for row in shown]
    for title in dict.fromkeys(title for each in times for title in each):
        cases = []
        for row, each in zip(shown, times):
            ms, hidden = each.get(title, (0.0, False))
            cases.append(f"{ms:.2f}, beside the network" if hidden else f"{ms:.2f} ({ms / wall_ms(row):.1%})")
        table.append([title, *cases])
    return [*table, ["in all", *(f"{wall_ms(row):.2f}" for row in shown)]]


def _backends(rows: Rows) -> list[list[str]]:
    table = [["detector", "backend", "batch", "network alone, no NMS", "end to end, NMS", "build, s",
              "from eager float32"]]  # fmt: skip
    if len(rows.matrix.backends) == 1:
        return table
    for model in rows.detectors:
        for size in rows.matrix.batch_sizes:
            for backend in rows.matrix.backends:
                alone = rows.find(model, "model", size, False, backend=backend)
                if alone:
                    whole = rows.find(model, "e2e", size, True, backend=backend)
                    table.append([f"`{model}`", backend, str(size), _speed(alone), _speed(whole),
                                  f"{alone['build_seconds']:.0f}", f"{alone['largest_difference']:.0e}"])  # fmt: skip
    return table


def _peers(rows: Rows) -> list[list[str]]:
    table = [["peer", "", "batch", "NMS", "images/s", *(f"`{m}` to it" for m in rows.detectors)]]
    for row in [r for r in rows.rows if r["model"] in rows.peers]:
        ours = [rows.find(m, row["stage"], row["batch_size"], row["nms"], block=row["block"]) for m in rows.detectors]
        ratios = [_ratio(own, row) for own in ours]
        stage = "end to end" if row["stage"] == "e2e" else "network alone"
        nms = "yes" if row["nms"] else "no"
        table.append([row["model"], stage, str(row["batch_size"]), nms, _speed(row), *ratios])
    return table


def _speed(row: Row | None) -> str:
    return speed_text(row["samples"], 1) if row else ""


def _ratio(row: Row | None, base: Row | None) -> str:
    return f"{summary(ratio_samples(row, base))['median']:.2f}" if row and base else ""
