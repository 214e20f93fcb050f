"""Augmentation in the DCT domain against pixels in float64, and that items depend on their seeds alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms.v2 import RandomIoUCrop
from torchvision.transforms.v2 import functional as v2

from jpegdeep_torch.data.loader import as_it_is
from jpegdeep_torch.data.reading import Clock, InputReader
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import ConfigError, DatasetError, JpegError, ModelError
from jpegdeep_torch.jpeg import read_dct, read_planes
from jpegdeep_torch.jpeg.native import native_module
from jpegdeep_torch.jpeg.quantization import standard_tables
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from jpegdeep_torch.training.augmentation import (
    AugmentationConfig,
    Geometry,
    Photometric,
    draw_detection_geometry,
    photometric,
    render_pixels,
)
from jpegdeep_torch.training.samples import DetectionSamples
from tests.jpeg_samples import jpeg, picture
from tests.training.make_dataset import CLASSES, make_voc

SIZE = 304
TO_YCBCR = np.array(  # JFIF 1.02, without the 128 of Cb and Cr
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
)


def blocks(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> (H / 8, W / 8, 8, 8)."""
    return plane.reshape(plane.shape[0] // 8, 8, -1, 8).swapaxes(1, 2)


def on_pixels(data: bytes, geometry: Geometry, change: Photometric, fill: tuple[float, float, float]):
    """The inverse DCT, then crop, resize, flip, paste and colours of RGB in float64 without clamping, then the DCT."""
    planes = read_planes(data)
    height, width = planes.image_size
    samples = []
    for plane in planes.coefficients:
        whole = scipy.fft.idctn(plane.reshape(*plane.shape[:2], 8, 8).astype(float), axes=(2, 3), norm="ortho")
        samples.append(whole.swapaxes(1, 2).reshape(8 * plane.shape[0], -1)[:height, :width])
    ycc = np.stack(samples, axis=-1) + (128, 0, 0)
    rgb = ycc @ np.linalg.inv(TO_YCBCR).T + change.brightness
    rgb = 128 + change.contrast * (rgb - 128)
    grey = (rgb @ TO_YCBCR[0])[..., None]
    rgb = grey + change.saturation * (rgb - grey)
    top, left, part_height, part_width = geometry.crop
    part = torch.from_numpy(rgb[top : top + part_height, left : left + part_width]).permute(2, 0, 1)[None]
    place_top, place_left, place_height, place_width = geometry.place
    part = F.interpolate(part, (place_height, place_width), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    canvas = np.tile(np.array(fill, float), (SIZE, SIZE, 1))
    part = part.numpy()[:, ::-1] if geometry.flip else part.numpy()
    canvas[place_top : place_top + place_height, place_left : place_left + place_width] = part
    ycc = canvas @ TO_YCBCR.T - (128, 0, 0)
    halved = ycc.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean(axis=(1, 3))
    return [
        scipy.fft.dctn(blocks(p), axes=(2, 3), norm="ortho").reshape(*blocks(p).shape[:2], 64)
        for p in (ycc[..., 0], halved[..., 1], halved[..., 2])
    ]


WHOLE = (0, 0, SIZE, SIZE)
CASES = {
    "scale": (Geometry(SIZE, (0, 0, 240, 333), WHOLE), Photometric()),
    "crop": (Geometry(SIZE, (13, 27, 101, 200), WHOLE), Photometric()),
    "flip": (Geometry(SIZE, (0, 0, 240, 333), WHOLE, flip=True), Photometric()),
    "expand": (Geometry(SIZE, (0, 0, 240, 333), (31, 77, 150, 201)), Photometric()),
    "brightness": (Geometry(SIZE, (0, 0, 240, 333), WHOLE), Photometric(brightness=-27.5)),
    "contrast": (Geometry(SIZE, (0, 0, 240, 333), WHOLE), Photometric(contrast=1.43)),
    "saturation": (Geometry(SIZE, (0, 0, 240, 333), WHOLE), Photometric(saturation=0.61)),
    "all": (
        Geometry(SIZE, (5, 60, 230, 222), (101, 2, 140, 299), flip=True),
        Photometric(brightness=19, contrast=0.7, saturation=1.4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_in_the_dct_domain_it_is_what_it_is_on_pixels(name):
    geometry, change = CASES[name]
    data, fill = jpeg(picture(240, 333, seed=3), subsampling=0, quality=92), (123.0, 117.0, 104.0)
    out = np.empty((38, 38, 64), np.float32), np.empty((19, 19, 128), np.float32)
    read_dct(data, resize=change.before_turning(geometry.resize(), fill), out=out)
    luma, cb, cr = on_pixels(data, geometry, change, fill)
    for found, expected in ((out[0], luma), (out[1][..., :64], cb), (out[1][..., 64:], cr)):
        assert np.abs(found - expected).max() < 1e-2
        assert np.abs(expected).max() > 100


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("quality", [None, 75])
def test_the_hue_turns_every_coefficient_in_its_plane(native, quality, monkeypatch):
    if native and native_module() is None:
        pytest.skip("the native module was not built")
    if not native:
        monkeypatch.setattr(photometric, "native_module", lambda: None)
    chroma = np.random.default_rng(0).normal(scale=300, size=(5, 7, 128)).astype(np.float32)
    out = np.zeros((5, 7, 256), np.int16)[..., 64:192]  # a part of something larger
    Photometric(hue_deg=17.5).turn(chroma.copy(), quality, out)
    whole = (chroma[..., :64] + 1j * chroma[..., 64:]).astype(complex) * np.exp(1j * np.deg2rad(17.5))
    steps = np.ones(64) if quality is None else standard_tables(quality)[1]
    for found, exact in ((out[..., :64], whole.real), (out[..., 64:], whole.imag)):
        assert (found % steps == 0).all()
        assert np.abs(found - exact).max() <= steps.max() / 2 + 1e-3
        # Within a step's half of where it is; float32 may take the other neighbour of a half.
        assert np.mean(found == np.rint(exact / steps) * steps) > 0.999


def test_pixels_are_changed_as_torchvision_changes_them():
    pixels = picture(200, 260, seed=5)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    step = 6  # of 255: what one of the 256 steps of an 8-bit hue moves a channel by at most, 255 * 6 / 256
    changes = {
        # v2's contrast is about the image's mean luma, ours about 128, so that there is none to compare with.
        "saturation": (Photometric(saturation=0.6), v2.adjust_saturation(tensor, 0.6), 1),
        "more saturation": (Photometric(saturation=1.5), v2.adjust_saturation(tensor, 1.5), 1),
        "hue": (Photometric(hue_deg=16.875), v2.adjust_hue(tensor, 16.875 / 360), step),
        "less hue": (Photometric(hue_deg=-8.4375), v2.adjust_hue(tensor, -8.4375 / 360), step),
        "brightness": (Photometric(brightness=21), (tensor.int() + 21).clamp(0, 255), 0),
    }
    for name, (change, expected, tolerance) in changes.items():
        found = torch.from_numpy(change.change_pixels(pixels)).permute(2, 0, 1).int()
        assert (found - expected.int()).abs().max() <= tolerance, name
        assert (found - expected.int()).float().abs().mean() < 0.6, name
        assert (found - tensor.int()).abs().max() > 8, name
    crop = (11, 23, 150, 201)
    for flip in (False, True):
        out = np.empty((300, 300, 3), np.uint8)
        render_pixels(pixels, Geometry(300, crop, (0, 0, 300, 300), flip), Photometric(), (0.0, 0.0, 0.0), out)
        expected = v2.resized_crop(tensor, *crop, [300, 300], antialias=False)
        expected = v2.horizontal_flip(expected) if flip else expected
        assert (torch.from_numpy(out).permute(2, 0, 1).int() - expected.int()).abs().max() <= 1


@pytest.mark.slow
def test_crops_are_distributed_as_torchvision_s():
    """Two thousand crops each coefficients: how many there are, their areas and shapes."""
    size, boxes = (240, 320), np.array([[30.0, 40, 120, 150], [200, 100, 260, 190]])
    config = AugmentationConfig(expand_probability=0, flip_probability=0)
    ours = [draw_detection_geometry(config, np.random.default_rng(i), size, 300, boxes).crop for i in range(2000)]
    ours = np.array([crop[2:] for crop in ours])
    torch.manual_seed(0)
    options = list(config.iou_crop_overlaps)
    crop = RandomIoUCrop(0.3, 1.0, 0.5, 2.0, options, trials=40)
    objects = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=size)
    image = torch.zeros(1, *size, dtype=torch.uint8)
    theirs = np.array([crop(image, objects)[0].shape[1:] for _ in range(2000)])
    for figures in (lambda hw: hw.prod(1) / 76800, lambda hw: hw[:, 1] / hw[:, 0], lambda hw: hw.prod(1) == 76800):
        a, b = figures(ours).astype(float), figures(theirs).astype(float)
        error = np.sqrt(a.var() / len(a) + b.var() / len(b))
        assert abs(a.mean() - b.mean()) < 4 * error
        assert scipy.stats.ks_2samp(a, b).pvalue > 1e-4


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return read_voc(make_voc(tmp_path_factory.mktemp("voc") / "voc", count=4), "train", CLASSES)


def samples(images, coefficients: str = "native", augmentation: AugmentationConfig | None = None) -> DetectionSamples:
    config = model_config("ssd300_vgg16" if coefficients == "pixels" else "ssd300_vgg16_dct")
    return DetectionSamples(
        images, config, get_preset("voc"), coefficients=coefficients, augmentation=augmentation or AugmentationConfig()
    )


@pytest.mark.parametrize("coefficients", ["native", "pixels", "reencode"])
def test_an_item_hangs_on_its_seed_alone(images, coefficients):
    keys = [(i % 4, 1000 + i) for i in range(6)]
    torch.manual_seed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    dataset = samples(images, coefficients)
    alone = [dataset[key] for key in keys]
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()
    loader = DataLoader(dataset, batch_sampler=[keys[::-1]], num_workers=1, collate_fn=as_it_is)
    together = next(iter(loader))
    for item, place in zip(alone, range(5, -1, -1)):
        assert all(torch.equal(a[0], b[place]) for a, b in zip(item.inputs, together.inputs))
        count = int((item.labels > 0).sum())
        assert torch.equal(item.boxes[0, :count], together.boxes[place, :count])
    assert not torch.equal(dataset[0, 1].inputs[0], dataset[0, 2].inputs[0])


@pytest.mark.parametrize("coefficients", ["native", "pixels", "reencode"])
def test_without_augmentation_it_is_what_inference_reads(images, coefficients):
    found = samples(images, coefficients, AugmentationConfig.none())[1, 0]
    config = model_config("ssd300_vgg16" if coefficients == "pixels" else "ssd300_vgg16_dct")
    reader = InputReader(config, get_preset("voc", None if coefficients == "pixels" else coefficients))
    rooms = [np.empty(shape, str(reader.dtype).removeprefix("torch.")) for shape in reader.shapes(1)]
    reader.read(images[1].path, "a", tuple(room[0] for room in rooms), Clock())
    assert all(np.array_equal(a.permute(0, 2, 3, 1), b) for a, b in zip(found.inputs, rooms))
    expected = images[1].boxes / np.array((320, 240, 320, 240))
    np.testing.assert_allclose(found.boxes[0], expected, atol=1e-6)
    assert found.labels[0].tolist() == images[1].labels.tolist()


def test_boxes_lie_where_the_objects_come_to_lie(images):
    """The objects are the only strongly coloured things: their pixels must fill the boxes, and nothing else."""
    plain = AugmentationConfig(
        brightness_probability=0, contrast_probability=0, saturation_probability=0, hue_probability=0
    )
    seen = 0
    for seed in range(12):
        item = samples(images, "pixels", plain)[seed % 4, seed]
        pixels = item.inputs[0][0].permute(1, 2, 0).int().numpy()
        strong = (pixels.max(axis=2) - pixels.min(axis=2)) > 100
        for box, label in zip(item.boxes[0].numpy() * 300, item.labels[0].tolist()):
            if label == CLASSES.index("square") + 1:
                x0, y0, x1, y1 = np.rint(box).astype(int)
                inside = strong[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
                assert inside.size == 0 or inside.mean() > 0.97
                seen += 1
    assert seen > 3


def test_crops_and_canvases_keep_to_their_limits():
    config = AugmentationConfig(expand_max_ratio=2.0, expand_probability=1.0, iou_crop=False, flip_probability=0.3)
    drawn = [
        draw_detection_geometry(config, np.random.default_rng(seed), (240, 320), 300, np.array([[9.0, 9, 90, 90]]))
        for seed in range(400)
    ]
    shares = [g.place[2] / 300 for g in drawn]
    assert 0.49 <= min(shares) < 0.53 and 0.95 < max(shares) <= 1
    assert 0.2 < np.mean([g.flip for g in drawn]) < 0.4
    assert all(g.crop == (0, 0, 240, 320) for g in drawn)


def test_what_cannot_be_used_is_named(images, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(jpeg()[:300])
    broken = dataclasses.replace(images[0], path=tmp_path / "broken.jpg")
    with pytest.raises(JpegError, match=r"broken\.jpg"):
        samples([broken])[0, 0]
    other = dataclasses.replace(images[0], height_px=111)
    with pytest.raises(DatasetError, match="111"):
        samples([other])[0, 0]
    with pytest.raises(ModelError, match=r"'imagenet' cuts out an image's middle"):
        DetectionSamples(
            images,
            model_config("ssd300_vgg16_dct"),
            get_preset("imagenet"),
            augmentation=AugmentationConfig(),
        )
    with pytest.raises(ModelError, match="expected coefficients 'pixels'"):
        DetectionSamples(images, model_config("ssd300_vgg16"), get_preset("voc"), augmentation=AugmentationConfig())
    with pytest.raises(ConfigError, match=r"contrast.*crop_scale"):
        AugmentationConfig(contrast=(2.0, 1.0), crop_scale=(0.5, 0.1))
