"""`jpegdeep eval` on photographs that are stored lying: the same figures however they are annotated."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.evaluate import coco as eval_coco
from jpegdeep_torch.cli.evaluate import voc as eval_voc
from jpegdeep_torch.data.voc import read_voc
from tests.set_forms import write_coco, write_voc, write_yolo
from tests.shapes import NAMES

FORMS = {"voc": (write_voc, eval_voc, 1), "coco": (write_coco, eval_coco, 0), "yolo": (write_yolo, eval_voc, 0)}


@pytest.fixture(scope="module")
def photographs(dataset, tmp_path_factory):
    """photographs(first_px) -> the images of tests/conftest.py, turned by a quarter, annotated both ways."""
    folder, found = tmp_path_factory.mktemp("lying"), []
    for image in read_voc(dataset, "test", NAMES):
        with Image.open(image.path) as upright:
            stored, exif = upright.transpose(Image.Transpose.ROTATE_90), upright.getexif()
        exif[0x0112] = 6
        path = folder / image.path.name
        stored.save(path, "JPEG", quality=88, exif=exif)
        found.append(dataclasses.replace(image, path=path))

    def annotated(first_px: int):
        as_stored = []
        for image in found:
            x0, y0, x1, y1 = image.boxes.T
            width = image.width_px + first_px
            boxes = np.stack((y0, width - x1, y1, width - x0), axis=1)
            size = {"height_px": image.width_px, "width_px": image.height_px}
            as_stored.append(dataclasses.replace(image, boxes=boxes, **size))
        return {"upright": found, "stored": as_stored}

    return annotated


def figures(command, weights, root, out, *flags: str) -> dict:
    command([str(weights), str(root), "--set", "test", "--workers", "0", "--json", str(out), *flags])
    (found,) = json.loads(out.read_text())["results"]
    return {key: found.get(key) for key in ("map_area", "figures", "images")}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["ssd300_vgg16_dct", "ssd300_vgg16"])
def test_the_figures_are_the_same(photographs, weights, tmp_path, form, network):
    write, command, first_px = FORMS[form]
    found = {}
    for name, images in photographs(first_px).items():
        flags = ["--set-orientation", "stored"] if (form, name) == ("yolo", "stored") else []  # else the sizes tell
        found[name] = figures(command, weights(network), write(tmp_path / name, images, NAMES), tmp_path / "a", *flags)
    assert found["upright"] == found["stored"] and found["upright"]["images"] == 21
    assert (found["upright"]["map_area"] or found["upright"]["figures"]["AP50"]) > 0


def test_swapped_sizes_are_an_error_that_names_a_file(dataset, weights, tmp_path, capsys):
    images = read_voc(dataset, "test", NAMES)
    swapped = [dataclasses.replace(each, height_px=each.width_px, width_px=each.height_px) for each in images]
    root = write_voc(tmp_path / "voc", swapped, NAMES)
    for path in (root / "Annotations").iterdir():  # boxes inside both
        head = path.read_text().partition("<object>")[0]
        path.write_text(head + "<object><name>disc</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>90</xmax>"
                        "<ymax>80</ymax></bndbox></object></annotation>")  # fmt: skip
    assert run_command(eval_voc, [str(weights()), str(root), "--workers", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {root}/JPEGImages/{images[0].name}.jpg: ") and "which its annotation gives" in said
