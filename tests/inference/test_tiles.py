"""Windows of one reading: that they cover the photograph, and that what is found in them is joined."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from jpegdeep_torch import Detector, TiledDetector
from jpegdeep_torch.cli.predict import main
from jpegdeep_torch.errors import JpegError, ModelError
from jpegdeep_torch.inference import tiles
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg, picture

WIDTH, HEIGHT = 640, 480


def small(name: str = "ssd300_mobilenet_v2_dct_small", **options) -> Detector:
    return Detector(create_model(name, 3, width=1 / 8, seed=0), workers=0, **options)


@pytest.mark.parametrize("size", [(480, 640), (7, 1000), (1, 1), (3001, 299)])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_windows_cover_the_image(size, count):
    found = tiles.windows(size, count)
    assert found[0] == (0, 0, *size) and len(found) == len(set(found)) <= count * count + 1
    seen = np.zeros(size, int)
    for top, left, height, width in found[1:]:
        assert 0 <= top <= size[0] - height and 0 <= left <= size[1] - width
        seen[top : top + height, left : left + width] += 1
    assert len(found) == 1 or (seen > 0).all()
    if count > 1 and min(size) > 100:  # neighbours share a quarter of their side
        tops = sorted({window[0] for window in found[1:]})
        height = found[1][2]
        assert all(a + height - b >= 0.25 * height - 1 for a, b in itertools.pairwise(tops))


@pytest.mark.parametrize("name", ["ssd300_mobilenet_v2_dct_small", "ssd300_mobilenet_v2_dct_y", "ssd300_mobilenet_v2"])
def test_one_tile_is_the_detector_itself(name):
    data = jpeg(picture(HEIGHT, WIDTH))
    detector = small(name, threshold=0.2)
    (expected,), (found,) = detector.predict([data]), TiledDetector(detector, 1).predict([data])
    assert len(expected["scores"]) > 0
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_windows_are_those_parts_of_the_picture(monkeypatch):
    """Cut in the DCT domain, against Pillow's decoder, a crop of pixels and OpenCV's resizing; decoded once."""
    import io

    import cv2
    from PIL import Image

    data = jpeg(picture(HEIGHT, WIDTH))
    decoded = []
    monkeypatch.setattr(
        tiles, "read_planes", lambda *a, read=tiles.read_planes, **k: decoded.append(1) or read(*a, **k)
    )
    tiled = TiledDetector(small(preset="voc"), 3)
    seen: list[torch.Tensor] = []
    forward = tiled.detector.forward
    monkeypatch.setattr(tiled.detector, "forward", lambda inputs: seen.append(inputs[0]) or forward(inputs))
    tiled.predict([data])
    assert len(decoded) == 1
    luma = torch.cat(seen)
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.float32)
    places = tiles.windows((HEIGHT, WIDTH), 3)
    assert len(luma) == len(places) == 10
    for item, (top, left, height, width) in zip(luma, places):
        part = cv2.resize(pixels[top : top + height, left : left + width], (300, 300))
        y = (part @ np.array((0.299, 0.587, 0.114)))[:296, :296].reshape(37, 8, 37, 8).mean(axis=(1, 3))
        assert np.abs(item[0, :37, :37].numpy() / 8 + 128 - y).mean() < 2  # of 255; rounded to steps of 2 or 3


def test_objects_are_found_once(monkeypatch):
    """Each window's detector is replaced by one that knows the objects, and sees what lies in its window."""
    objects = torch.tensor([
        [10.0, 12, 40, 44],  # in a corner
        [300, 220, 340, 260],  # in the middle, where windows overlap
        [0, 100, 600, 400],  # larger than any window
        [420, 180, 520, 300],  # across windows' edges
        [600, 440, 640, 480],  # at the picture's own edge
    ])  # fmt: skip
    labels = torch.tensor([1, 2, 3, 1, 2])
    tiled = TiledDetector(small(batch_size=4), 3)
    places = iter(tiles.windows((HEIGHT, WIDTH), 3))

    def postprocess(outputs, sizes):
        found = []
        for size in sizes.tolist():
            top, left, height, width = next(places)
            assert size == [height, width]
            low, high = torch.tensor((left, top)), torch.tensor((left + width, top + height))
            boxes = torch.cat((objects[:, :2].maximum(low), objects[:, 2:].minimum(high)), dim=1)
            seen = ((boxes[:, 2:] - boxes[:, :2]) > 4).all(dim=1)
            moved = boxes[seen] - torch.cat((low, low))
            scores = torch.linspace(0.9, 0.8, len(labels))[seen] - 0.001 * left / WIDTH
            found.append({"boxes": moved, "scores": scores, "labels": labels[seen]})
        return found

    monkeypatch.setattr(tiled.detector, "postprocess", postprocess)
    (found,) = tiled.predict([jpeg(picture(HEIGHT, WIDTH))])
    assert sorted(map(tuple, found["boxes"].tolist())) == sorted(map(tuple, objects.tolist()))
    assert sorted(found["labels"].tolist()) == sorted(labels.tolist())
    assert (found["scores"].diff() <= 0).all()


def test_mistakes():
    with pytest.raises(ModelError, match="tiles is 0, expected 1 to 32"):
        TiledDetector(small(), 0)
    with pytest.raises(ModelError, match="expected coefficients 'native', not 'reencode'"):
        TiledDetector(small(preset=torch_preset("reencode")))
    tiled = TiledDetector(small(), 2)
    with pytest.raises(JpegError):
        tiled.predict([b"no picture"])
    assert tiled.predict([b"no picture", jpeg()], "report")[0] is None
    assert len(list(tiled.stream([b"no picture", jpeg()], "skip"))) == 1


def torch_preset(coefficients: str):
    from jpegdeep_torch import get_preset

    return get_preset("voc", coefficients)


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_weights(create_model("ssd300_mobilenet_v2_dct_small", 3, width=1 / 8, seed=0), "weights")
    (tmp_path / "a.jpg").write_bytes(jpeg(picture(HEIGHT, WIDTH)))
    main(["weights", "a.jpg", "--tiles", "2", "-o", "out", "--score", "0.1", "--workers", "0"])
    (line,) = (tmp_path / "out" / "detections.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == "a.jpg"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["tiles"] == 2
    assert list((tmp_path / "out" / "pictures").iterdir())
    with pytest.raises(ModelError, match="tiles is 99"):
        main(["weights", "a.jpg", "--tiles", "99"])
