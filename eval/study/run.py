"""A study's parts, measured in order within a time budget, and the page of what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark.markdown import aligned
from eval.benchmark.networks import Network, make_network
from eval.study import scaling
from eval.study import throughput_model as prediction
from eval.study.folder import StudyFolder, read_json
from eval.study.page import matrix_page
from eval.study.plots import draw
from eval.study.results import Rows
from eval.study.scaling import Ladder, Placed, doubling
from eval.study.scaling_page import bars, scaling_lines
from eval.study.scaling_plots import draw_scaling
from jpegdeep_torch.models import model_config
from jpegdeep_torch.utils.environment import machine
from jpegdeep_torch.utils.files import write_json, written_whole

PARTS = ("matrix", "scaling", "prediction")
NARROW = 0.25  # of the channels: networks that leave the reading something to say, for the prediction
_LADDER_BATCH = 8  # how cost grows is told up to this batch size at least
PLOTS = {
    "batch.png": "Images per second against the batch size",
    "stages.png": "Time per image, by stage",
    "ratio.png": "DCT over RGB",
    "workers.png": "Images per second against the number of workers",
    "scaling.png": "How time grows with batch size, threads, workers and image size",
    "memory.png": "How peak memory grows",
    "prediction.png": "Predicted against measured speed",
}


def unmeasured(study: StudyFolder, parts: Sequence[str]) -> list[str]:
    """The blocks and parts among `parts` that are still to be measured, by name."""
    left = [block.name for block in study.missing()] if "matrix" in parts else []
    return left + [part for part in PARTS[1:] if part in parts and not _file(study, part).exists()]


def has_figures(study: StudyFolder) -> bool:
    """Whether anything was measured, so that there is something to tell."""
    return bool(study.rows()) or any(_file(study, part).exists() for part in PARTS[1:])


def measure_study(
    study: StudyFolder,
    parts: Sequence[str] = PARTS,
    deadline: float | None = None,
    on_step: Callable[[str], None] = lambda name: None,
    on_round: Callable[[], None] = lambda: None,
) -> list[str]:
    """Measures what of `parts` is missing -> the names of what is missing still, for which there was no time.

    Nothing is begun that would not be done before `deadline` (of time.monotonic()).  The first block, the base, is the
    exception: what all else will take is estimated from it, so with a deadline it is measured first, whatever it takes.
    """

    def on_block(block: Any) -> None:
        on_step(block.name)

    if not study.rows() and ("matrix" in parts or deadline is not None):
        study.run(deadline, on_block, on_round, most=1)
    for part in PARTS[1:]:
        if part not in unmeasured(study, parts):
            continue
        if deadline is None or time.monotonic() + estimated_seconds(part, study) < deadline:
            on_step(part)
            write_json(_file(study, part), {part: _measure_part(part, study, on_step, on_round)})
    if "matrix" in parts:
        study.run(deadline, on_block, on_round)
    return unmeasured(study, parts)


def _file(study: StudyFolder, part: str) -> Path:
    return study.folder / f"{part}.json"


def _networks(study: StudyFolder) -> list[str]:
    """The first on pixels and the first on coefficients: those that 'scaling' and 'prediction' are of."""
    configs = {name: model_config(name) for name in study.matrix.models}
    firsts = [next((n for n, c in configs.items() if c.is_dct == is_dct), None) for is_dct in (False, True)]
    return [name for name in firsts if name]


def _narrow(name: str) -> str:
    return f"{name}, {NARROW} of the channels"


def _ladder(study: StudyFolder) -> Ladder:
    most = max(study.matrix.base_batch, _LADDER_BATCH)
    workers = tuple(sorted(w for w in {1, *study.matrix.workers} if w))
    return Ladder(doubling(most), doubling(int(machine()["cores"])), workers, batch_size=most)


def _prediction_seconds(study: StudyFolder) -> float:
    """Twice as long as other parts: each prediction is held against one figure, not against one taken beside it."""
    return 2 * study.setting.seconds


def estimated_seconds(part: str, study: StudyFolder) -> float:
    """About what a part will take, by the speeds that the networks have shown so far."""
    backend, kinds = study.matrix.backends[0], study.matrix.coefficients
    speeds = {name: study.images_per_s(name, backend) for name in _networks(study)}
    if part == "scaling":
        ladder, seconds = _ladder(study), study.setting.seconds
        return sum(
            scaling.seconds_needed(ladder, seconds, speed, len(kinds) if model_config(name).is_dct else 1)
            for name, speed in speeds.items()
        )
    # Of a network with fewer channels no less than this is known: it is not slower than in proportion.
    speeds |= {_narrow(name): speed / NARROW for name, speed in speeds.items()}
    networks: Mapping[str, Any] = {name: study.network(name.partition(",")[0]) for name in speeds}
    return prediction.seconds_needed(networks, kinds, _prediction_seconds(study), speeds)


def _measure_part(part: str, study: StudyFolder, on_step: Callable[[str], None], on_round: Callable[[], None]) -> Any:
    setting, kinds, jpegs = study.setting, study.matrix.coefficients, study.sources
    networks = {name: study.network(name) for name in _networks(study)}
    placed = Placed(setting.device, study.matrix.backends[0], setting.precision)
    if part == "scaling":
        return scaling.measure_scaling(networks, jpegs, kinds, _ladder(study), setting.seconds, placed, on_step)
    narrow: dict[str, Network] = {
        _narrow(name): make_network(
            name, jpegs, coefficients=kinds[0], decoder=setting.decoder, seed=setting.seed, width=NARROW
        )
        for name in networks
    }
    return prediction.measure_prediction(networks | narrow, jpegs, kinds, _prediction_seconds(study), placed, on_round)


def write_outcome(
    study: StudyFolder,
    header: Mapping[str, Any],
    command: str,
    parts: Sequence[str] = PARTS,
    left_out: Sequence[str] = (),
) -> None:
    """Writes study.json, the plots and README.md, from what has been measured so far.

    Args:
        header: what `run_header` gives.
        command: the line that does it again.
        left_out: files that were not used, and why.
    """
    missing = unmeasured(study, parts)
    rows = Rows(study.rows(), study.matrix)
    found = {part: read_json(_file(study, part))[part] if _file(study, part).exists() else None for part in PARTS[1:]}
    measured, predicted = found["scaling"] or [], found["prediction"]
    about = {"missing": missing, "left_out": list(left_out), "results": rows.rows, "ratios": study.ratios()}
    write_json(study.folder / "study.json", {**header, **study.settings, **about, **found})
    lines = matrix_page(rows, study.settings, missing, command, left_out)
    lines += scaling_lines(measured, predicted)
    if len(held := bars(rows, measured, predicted)) > 1:
        lines += ["", "## What must hold", "", *aligned(held)]
    for plot in [*draw(rows, study.folder), *draw_scaling(measured, predicted, study.folder)]:
        lines += ["", f"## {PLOTS[plot]}", "", f"![{PLOTS[plot]}]({plot})"]
    with written_whole(study.folder / "README.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
