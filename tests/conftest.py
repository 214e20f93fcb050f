"""What several test files need.  `shared/` beside the repository holds reference data that is not ours to ship."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

import pytest
import torch

from eval.benchmark.seeded import seeded_detector
from jpegdeep_torch.data import JpegDataset, prepare_inputs
from jpegdeep_torch.models import create_model
from jpegdeep_torch.presets import get_preset
from jpegdeep_torch.weights import save_weights
from tests.shapes import HEIGHT, NAMES, WIDTH, draw_scene

SHARED = Path(__file__).resolve().parents[2] / "shared"
torch.set_num_threads(1)  # the tests run as one process a core


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared/` beside the repository."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("shared/ is not beside the repository: the stored Keras outputs are not at hand")
    return SHARED


@pytest.fixture
def unpacked(shared: Path, tmp_path: Path):
    """unpacked(NAME) -> the reference checkpoint NAME.h5, in a folder that goes with the test."""
    made = []

    def unpack(name: str) -> Path:
        target = tmp_path / f"{name}.h5"
        with lzma.open(shared / "reference" / "checkpoints" / f"{name}.h5.xz") as packed, open(target, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        made.append(target)
        return target

    yield unpack
    for path in made:  # up to 550 MB each: do not keep them for pytest's last three runs
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """A VOC-style folder of 21 pictures, the set 'test' in an order of its own."""
    root = tmp_path_factory.mktemp("shapes")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"shape_{k:02d}" for k in range(21)]
    for seed, name in enumerate(names):
        picture, objects = draw_scene(seed)
        picture.save(root / "JPEGImages" / f"{name}.jpg", "JPEG", quality=88)
        items = "".join(
            f"<object><name>{kind}</name><difficult>{int(k == 3)}</difficult><bndbox>"
            + "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
            + "</bndbox></object>"
            for k, (kind, box) in enumerate(objects)
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{items}</annotation>")
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(reversed(names)) + "\n")
    return root


@pytest.fixture(scope="session")
def weights(dataset, tmp_path_factory):
    """weights(MODEL, seed=0) -> a file of a narrow detector whose scores are spread as a trained one's."""
    made: dict[tuple[str, int], Path] = {}

    def make(name: str = "ssd300_vgg16_dct", seed: int = 0) -> Path:
        if (name, seed) not in made:
            files, preset = sorted((dataset / "JPEGImages").iterdir())[:4], get_preset("voc")
            config = create_model(name, len(NAMES), width=0.125).config
            inputs = JpegDataset(files, config, preset).__getitems__(range(4)).inputs
            model = seeded_detector(
                name, prepare_inputs(inputs, config, preset), seed, num_classes=len(NAMES), width=0.125
            )
            path = tmp_path_factory.mktemp("weights") / f"{name}_{seed}.safetensors"
            save_weights(model, path, class_names=NAMES)
            made[name, seed] = path
        return made[name, seed]

    return make
