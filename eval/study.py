"""Where the time goes on this machine: networks, backends, batch sizes, workers and ways to coefficients in one study.

python -m eval.study -o study --minutes 20
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from eval.peers import PEERS, make_timed_peer
from jpegdeep_torch.backends import PRECISIONS, chosen_device, get_backend, list_backends
from jpegdeep_torch.benchmark.growth_page import bars, growth_page
from jpegdeep_torch.benchmark.growth_plots import draw_growth
from jpegdeep_torch.benchmark.photos import builtin_jpegs, described
from jpegdeep_torch.benchmark.prediction import measure_prediction
from jpegdeep_torch.benchmark.report import aligned
from jpegdeep_torch.benchmark.rows import Rows
from jpegdeep_torch.benchmark.scaling import Ladder, doubling, measure_scaling
from jpegdeep_torch.benchmark.stats import machine
from jpegdeep_torch.benchmark.study import Block, Matrix, Setting, Study, read_json
from jpegdeep_torch.benchmark.study_page import matrix_page
from jpegdeep_torch.benchmark.study_plots import draw
from jpegdeep_torch.benchmark.subject import make_network
from jpegdeep_torch.cli import Parser, run_command
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.data.reading import Source, read_bytes, source_name
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.evaluation.records import write_json
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.pipeline import default_workers
from jpegdeep_torch.weights import read_info, written_whole

DEFAULT_MODELS = ("ssd300_vgg16", "ssd300_vgg16_dct")
BATCH_SIZES = {"cpu": (1, 8, 32), "cuda": (8, 32, 128)}
SECONDS = 4.0
PLOTS = {
    "batch.png": "Images per second against the batch size",
    "stages.png": "Time an image, by stage",
    "ratio.png": "DCT over RGB",
    "workers.png": "Images per second against the number of workers",
    "scaling.png": "How time grows with batch size, threads, workers and image size",
    "memory.png": "How peak memory grows",
    "prediction.png": "Predicted against measured speed",
}
PARTS = ("matrix", "scaling", "prediction")
NARROW = 0.25  # of the channels: networks that leave the reading something to say, for the prediction


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.study", description=__doc__.splitlines()[0])
    p.add_argument("-o", "--output", required=True, metavar="DIR", help="a study's folder: a new one, or one to go on")
    p.add_argument("--minutes", type=float, metavar="M", help="begin nothing that would end later (default: no limit)")
    p.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="(default: all)")
    p.add_argument("--images", metavar="DIR", help="JPEG files (default: 32 built-in photographs)")
    p.add_argument("--weights", nargs="+", default=[], metavar="FILE",
                   help="safetensors files, whose networks take part; other networks get seeded weights")  # fmt: skip
    p.add_argument("--models", nargs="+", metavar="MODEL",
                   help=f"ratios are to the first on pixels (default: {' '.join(DEFAULT_MODELS)})")  # fmt: skip
    p.add_argument("--backends", nargs="+", default=["torch"], metavar="BACKEND",
                   help=f"of {', '.join(list_backends())}; the first is the base (default: torch)")  # fmt: skip
    p.add_argument("--batch-sizes", type=int, nargs="+", metavar="N",
                   help="default: 1 8 32 on a CPU, 8 32 128 on a GPU")  # fmt: skip
    p.add_argument("--base-batch", type=int, default=8, metavar="N", help="where all is compared (default: 8)")
    p.add_argument("--workers", type=int, nargs="+", metavar="N",
                   help="processes that read JPEGs; the first is the base (default: 1 0 2 on a CPU)")  # fmt: skip
    p.add_argument("--presets", nargs="+", default=["dct", "reencode"], choices=("dct", "reencode"),
                   help="ways to coefficients; the first is the base")  # fmt: skip
    p.add_argument("--peers", nargs="+", default=[], metavar="PEER", help=PEERS)
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    p.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    p.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    p.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    p.add_argument("--seconds", type=float, default=SECONDS, help="a run, at least 3 rounds (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    started = time.monotonic()
    study = make_study(args)
    deadline = None if args.minutes is None else started + args.minutes * 60
    others = [part for part in PARTS[1:] if part in args.parts and not (study.folder / f"{part}.json").exists()]
    blocks = len(study.missing()) if "matrix" in args.parts else 0
    with tqdm(total=blocks + len(others), desc="study", unit="block", file=sys.stderr) as bar:

        def on_block(block: Block) -> None:
            bar.set_description(block.name)
            bar.update(blocks - len(study.missing()) - bar.n)

        if blocks and not study.rows():  # the base first, whatever else there is time for
            study.run(deadline, on_block, bar.refresh, most=1)
        for part in others:
            if deadline is None or time.monotonic() + estimated_seconds(part, study) < deadline:
                bar.set_description(part)
                write_json(study.folder / f"{part}.json", {part: measure_part(part, study, bar)})
        if blocks:
            study.run(deadline, on_block, bar.refresh)
        bar.update(blocks + len(others) - len(study.missing()) - bar.n)
    write_outcome(study, f"python -m eval.study {shlex.join(sys.argv[1:] if argv is None else argv)}")
    print(study.folder / "README.md")


def estimated_seconds(part: str, study: Study) -> float:
    """What a part takes at the least, by the base's speeds: each of its networks sends so many images."""
    sent, processes = {"scaling": (260, 8), "prediction": (600, 0)}[part]
    speeds = {row["model"]: row["images_per_s"]["median"] for row in study.rows() if row["batch_size"] > 1}
    return sum(sent / speeds[model] + 5.0 * processes for model in study.matrix.models if model in speeds)


def measure_part(part: str, study: Study, bar: tqdm) -> Any:
    """'scaling' or 'prediction', of the first network on pixels and the first on coefficients."""
    configs = {name: model_config(name) for name in study.matrix.models}
    firsts = [next((n for n, c in configs.items() if c.is_dct == is_dct), None) for is_dct in (False, True)]
    networks = {name: study.network(name) for name in firsts if name}
    setting, presets, workers = study.setting, study.matrix.presets, study.matrix.workers
    if part == "scaling":
        ladder = Ladder(
            batch_sizes=doubling(study.matrix.base_batch), threads=doubling(int(machine()["cores"])),
            workers=tuple(sorted(w for w in {1, *workers} if w)), batch_size=study.matrix.base_batch,
        )  # fmt: skip
        return measure_scaling(networks, presets, ladder, setting.seconds, setting.device, bar.set_description)
    narrow = {
        f"{name}, {NARROW} of the channels": make_network(
            name, study.sources, dct=presets[0], decoder=setting.decoder, seed=setting.seed, width=NARROW
        )
        for name in networks
    }
    # Twice as long as other parts: each prediction is held against one median, which drifts with the machine.
    return measure_prediction(networks | narrow, presets, 2 * setting.seconds, setting.device, bar.refresh)


def make_study(args: argparse.Namespace) -> Study:
    """The study that the arguments describe; JpegDeepError for what cannot be, before anything is measured."""
    device = chosen_device(args.device)
    weights = weights_by_model(args.weights)
    models = list(args.models or weights or DEFAULT_MODELS)
    models += [model for model in weights if model not in models]
    for name in models:
        if model_config(name).task != "detector":
            raise ModelError(f"{name}: a classifier, expected a detector")
    for backend in args.backends:
        get_backend(backend).require(device)
    if args.seconds < 0 or (args.threads is not None and args.threads < 1) or (args.minutes or 0) < 0:
        raise ModelError("--seconds, --minutes and --threads must be positive")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    base_workers = default_workers(device)
    matrix = Matrix(
        tuple(models), tuple(args.backends), tuple(args.batch_sizes or BATCH_SIZES[torch.device(device).type]),
        args.base_batch, tuple(args.presets),
        tuple(args.workers or dict.fromkeys((base_workers, 0, 2 * base_workers))),
    )  # fmt: skip
    sources = list_jpegs(args.images) if args.images else builtin_jpegs(seed=args.seed)
    jpegs = [read_bytes(source, source_name(source, i)) for i, source in enumerate(sources)]
    return Study(
        args.output, matrix,
        Setting(device, args.precision, args.seconds, args.decoder, args.seed, weights), jpegs,
        pictures=_pictures(args.images, sources, jpegs),
        peers=lambda: [make_timed_peer(name, jpegs, device, args.seed) for name in args.peers],
        peer_names=args.peers,
    )  # fmt: skip


def weights_by_model(files: Sequence[str]) -> dict[str, str]:
    """{the network that a safetensors file holds: the file}."""
    found: dict[str, str] = {}
    for file in files:
        model = read_info(file).model
        if model in found:
            raise ModelError(f"--weights: {found[model]} and {file} both hold {model}, expected one of each network")
        found[model] = file
    return found


def _pictures(folder: str | None, sources: Sequence[Source], jpegs: Sequence[bytes]) -> dict[str, object]:
    digest = hashlib.sha256()
    for data in jpegs:
        digest.update(hashlib.sha256(data).digest())
    what = f"{folder} ({len(sources)} files)" if folder else described(len(sources))
    return {"what": what, "files": len(sources), "sha256": digest.hexdigest()}


def write_outcome(study: Study, command: str) -> None:
    """study.json, the pictures and README.md, from what has been measured so far."""
    missing = [block.name for block in study.missing()]
    rows = Rows(study.rows(), study.matrix)
    found = {part: _part(study.folder, part) for part in PARTS[1:]}
    scaling, prediction = found["scaling"] or [], found["prediction"]
    record = {"command": command, **study.settings, "missing": missing}
    write_json(study.folder / "study.json", record | {"results": rows.rows, "ratios": study.ratios()} | found)
    lines = matrix_page(rows, study.settings, missing, command)
    lines += growth_page(scaling, prediction)
    if len(held := bars(rows, scaling, prediction)) > 1:
        lines += ["", "## What must hold", "", *aligned(held)]
    for picture in [*draw(rows, study.folder), *draw_growth(scaling, prediction, study.folder)]:
        lines += ["", f"## {PLOTS[picture]}", "", f"![{PLOTS[picture]}]({picture})"]
    with written_whole(study.folder / "README.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _part(folder: Path, part: str) -> Any:
    path = folder / f"{part}.json"
    return read_json(path)[part] if path.exists() else None


if __name__ == "__main__":
    sys.exit(run_command(main))
