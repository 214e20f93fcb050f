"""Training on files as people hold them: as without those that cannot be read, and on those that can."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jpegdeep_torch.training.report import Callbacks
from jpegdeep_torch.training.run import train
from tests.training.make_dataset import make_voc

UNREADABLE = ("truncated_50", "zero_filled_tail", "height_too_big_16", "really_a_png", "html_404", "precision_12_sof1")
SIZES = {"exif_orient_6": (176, 240), "height_too_big_16": (240, 192)}  # of the others 240x176
READABLE = ("exif_orient_6", "cmyk_adobe0", "sos_0_0_0_samsung", "no_eoi")


def held(root: Path, cases: Path) -> Path:
    """200 pictures, 10 of which are of `cases`, each annotated with a disc."""
    make_voc(root, count=190)
    names = (root / "ImageSets/Main/train.txt").read_text().split()
    for number, case in enumerate((*UNREADABLE, *READABLE)):
        names.insert(19 * number, case)
        shutil.copy(cases / f"{case}.jpg", root / "JPEGImages")
        width, height = SIZES.get(case, (240, 176))
        (root / "Annotations" / f"{case}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>{height}</height></size><object><name>disc</name><bndbox>"
            "<xmin>20</xmin><ymin>30</ymin><xmax>120</xmax><ymax>140</ymax></bndbox></object></annotation>"
        )
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names))
    (root / "ImageSets/Main/sound.txt").write_text("\n".join(name for name in names if name not in UNREADABLE))
    return root


@pytest.mark.slow
def test_a_lenient_run_is_one_without_what_cannot_be_read(shared, tmp_path):
    root, weights, said = held(tmp_path / "voc", shared / "cases" / "jpeg"), [], []
    for image_set in ("train", "sound"):
        config = {
            "model": {"name": "ssd300_vgg16_dct", "width": 0.03, "scale_to_data": True},
            "data": {"kind": "voc", "train": [{"root": str(root), "set": image_set}], "workers": 0, "lenient": True},
            "run": {"batch_size": 10, "epochs": 1, "threads": 1, "device": "cpu"},  # once through all of them
        }
        done = train(config, output=tmp_path / image_set, callbacks=Callbacks(said.append))
        weights.append(load_file(done.last))
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    lines = "\n".join(said)
    assert lines.count("194 images to train on") == 2 and lines.count("6 x unusable picture") == 1
    assert lines.count("decoded and compressed again: 1 x picture, such as ") == 2 and "could not be read" not in lines
