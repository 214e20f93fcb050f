"""From files to batches, in this process and in workers."""

import numpy as np
import pytest
import torch

from jpegdeep_torch.data import JpegDataset, JpegLoader, list_jpegs, make_loader, prepare_inputs
from jpegdeep_torch.errors import DatasetError, JpegError, ModelError
from jpegdeep_torch.jpeg import ReadOptions
from jpegdeep_torch.jpeg.pixels import decode_rgb, stretch
from jpegdeep_torch.jpeg.reencode import reencode
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from tests.jpeg_samples import BROKEN, KINDS, jpeg, picture

REENCODE = get_preset("voc", "reencode")
RGB, DCT, LUMA, SPLIT = (model_config(f"ssd300_vgg16{suffix}") for suffix in ("", "_dct", "_dct_y", "_dct_deconv"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("jpegs")
    for i in range(11):
        (path / f"{i:02d}.jpg").write_bytes(jpeg(picture(60 + 9 * i, 90 + 4 * i, seed=i)))
    (path / "notes.txt").write_text("not an image")
    return path


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_hold_the_files_in_order(folder, workers):
    files = list_jpegs(folder)
    loader = make_loader(files, DCT, REENCODE, batch_size=4, workers=workers)
    for _ in range(2):  # again, with the same workers
        batches = list(loader)
        assert [len(b) for b in batches] == [4, 4, 3] and len(loader) == 3
        assert [n for b in batches for n in b.names] == [str(f) for f in files]
        assert torch.cat([b.image_sizes for b in batches]).tolist() == [[60 + 9 * i, 90 + 4 * i] for i in range(11)]
    for batch in batches:
        luma, chroma = batch.inputs
        assert luma.dtype == chroma.dtype == torch.int16
        assert luma.shape[1:] == (64, 38, 38) and chroma.shape[1:] == (128, 19, 19)
        assert luma.is_contiguous(memory_format=torch.channels_last)
        for i, name in enumerate(batch.names):
            with open(name, "rb") as file:
                expected = reencode(stretch(decode_rgb(file.read()), 300))
            assert (luma[i].permute(1, 2, 0).numpy() == expected[0]).all()
            assert (chroma[i].permute(1, 2, 0).numpy() == expected[1]).all()


def test_pixels_and_luma_only(folder):
    data = (folder / "03.jpg").read_bytes()
    pixels = stretch(decode_rgb(data), 300)
    (batch,) = make_loader([data], RGB, REENCODE, decoder="pillow")
    assert batch.inputs[0].dtype == torch.uint8
    assert (batch.inputs[0][0].permute(1, 2, 0).numpy() == pixels).all()
    (batch,) = make_loader([data], LUMA, REENCODE)
    assert len(batch.inputs) == 1
    assert (batch.inputs[0][0].permute(1, 2, 0).numpy() == reencode(pixels)[0]).all()


@pytest.mark.parametrize("coefficients", ["native", "reencode"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_jpeg_works_or_says_why_not(kind, coefficients):
    data = jpeg(**KINDS[kind])
    (rgb,) = make_loader([data], RGB, REENCODE)
    assert rgb.inputs[0].float().std() > 10
    loader = make_loader([data], DCT, get_preset("voc", coefficients))
    (batch,) = loader
    if kind == "CMYK" and coefficients == "native":
        (expected,) = make_loader([data], DCT, REENCODE)
        assert all((got == by_reencode).all() for got, by_reencode in zip(batch.inputs, expected.inputs, strict=True))
        (line,) = loader.warnings.summary()
        assert line.startswith("warning: 1 file such as <bytes 0>: a CMYK JPEG") and "reencode" in line
        strict = make_loader([data], DCT, get_preset("voc"), read_options=ReadOptions(on_damage="strict"))
        with pytest.raises(JpegError, match=r"<bytes 0>: .*CMYK"):
            list(strict)
    else:
        assert loader.warnings.summary() == []
    luma, chroma = (t.float() for t in batch.inputs)
    assert luma.std() > 10 and batch.image_sizes.tolist() == [[120, 160]]
    assert (chroma.abs().max() <= 1) == (kind == "grayscale")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("config", [RGB, DCT], ids=lambda c: c.name)
@pytest.mark.parametrize("coefficients", ["native", "reencode"])
def test_broken_files_are_skipped_and_named_or_raise(workers, config, coefficients, tmp_path):
    sources = []
    for kind, (data, _) in BROKEN.items():
        path = tmp_path / f"{kind}.jpg"
        path.write_bytes(data)
        sources += [jpeg(), path]
    sources += [tmp_path / "absent.jpg", jpeg()]
    settings = {"batch_size": 3, "workers": workers}
    loader = make_loader(sources, config, get_preset("voc", coefficients), on_error="skip", **settings)
    for _ in range(2):
        batches = list(loader)
        assert [i for b in batches for i in b.indices] == [0, 2, 4, 6, 8, 10, 13]
        assert [name for name, _ in loader.skipped] == [str(tmp_path / f"{k}.jpg") for k in [*BROKEN, "absent"]]
    assert all(len(b.inputs[0]) == len(b) for b in batches)
    with pytest.raises(JpegError) as caught:
        list(make_loader(sources, config, get_preset("voc", coefficients), **settings))
    assert str(tmp_path / "empty.jpg") in str(caught.value)


def test_a_batch_of_nothing_but_broken_files_is_left_out():
    loader = make_loader([b"", b"", jpeg()], DCT, REENCODE, batch_size=2, on_error="skip")
    assert [b.indices for b in loader] == [[2]]
    assert loader.skipped == [(f"<bytes {i}>", "empty file, expected a JPEG") for i in range(2)]


def test_prepare_inputs():
    (batch,) = make_loader([jpeg()], DCT, REENCODE)
    luma, chroma = prepare_inputs(batch.inputs, DCT, REENCODE)
    assert luma.dtype == torch.float32 and (luma == batch.inputs[0]).all()
    y, cb, cr = prepare_inputs(batch.inputs, SPLIT, REENCODE, dtype=torch.bfloat16)
    assert y.dtype == torch.bfloat16 and (torch.cat((cb, cr), 1) == chroma.bfloat16()).all()
    (pixels,) = make_loader([jpeg()], RGB, REENCODE)
    raw = pixels.inputs[0].float()
    (image,) = prepare_inputs(pixels.inputs, RGB, REENCODE)
    mean = {"red": 123.68, "green": 116.779, "blue": 103.939}
    for channel, (place, colour) in enumerate([(2, "blue"), (1, "green"), (0, "red")]):
        assert torch.allclose(image[:, channel], raw[:, place] - mean[colour])
    (image,) = prepare_inputs(pixels.inputs, RGB, get_preset("coco"))
    assert (image == raw).all()


def test_imagenet_preset_cuts_the_middle():
    config = model_config("vgg16_dct")
    for coefficients in ("reencode", "native"):
        (batch,) = make_loader([jpeg(picture(300, 400))], config, get_preset("imagenet", coefficients))
        assert batch.inputs[0].shape == (1, 64, 28, 28) and batch.inputs[1].shape == (1, 128, 14, 14)
    wide = np.zeros((256, 600, 3), np.uint8)
    wide[:, 188:412] = 255  # 224 in the middle
    for coefficients in ("reencode", "native"):
        (batch,) = make_loader([jpeg(wide, quality=100)], config, get_preset("imagenet", coefficients))
        assert (batch.inputs[0][0, 0] > 1000).all()  # DC of white is 8 * 127


@pytest.mark.parametrize("size", [(480, 640), (333, 500), (97, 131)])
def test_pixels_made_at_the_networks_size_are_those_that_are_decoded_and_resized(size):
    """To within what rounding twice comes to, and what is clipped before and not after resizing."""
    data = jpeg(picture(*size, seed=3), quality=95)
    decoded = decode_rgb(data, decoder="pillow")
    side = round(min(size) * 224 / 256)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    middle = np.ascontiguousarray(decoded[top : top + side, left : left + side])
    for model, preset, expected in (("ssd300_vgg16", "voc", decoded), ("vgg16", "imagenet", middle)):
        config = model_config(model)
        made = JpegDataset([data], config, get_preset(preset), decoder="native-resized")[0]
        assert made.image_sizes.tolist() == [list(size)]
        pixels = made.inputs[0][0].permute(1, 2, 0).numpy().astype(int)
        difference = np.abs(pixels - stretch(expected, config.image_size))
        assert (difference <= 1).mean() > 0.99 and difference.mean() < 0.5


def test_bad_arguments(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        list_jpegs(tmp_path / "absent")
    with pytest.raises(DatasetError, match="no JPEG files"):
        list_jpegs(tmp_path)
    with pytest.raises(DatasetError, match="no images"):
        JpegDataset([], DCT, REENCODE)
    dataset = JpegDataset([jpeg()], DCT, REENCODE)
    for arguments in ({"batch_size": 0}, {"workers": -1}, {"on_error": "ignore"}):
        with pytest.raises(DatasetError, match="expected"):
            JpegLoader(dataset, **arguments)
    with pytest.raises(ModelError, match="decoder"):
        JpegDataset([jpeg()], DCT, REENCODE, decoder="none")


def test_decoding_where_the_network_runs():
    """The batched decoder, on the CPU here: the same pixels as the workers' own to within one value."""
    sources = [jpeg(picture(200, 260, seed=i)) for i in range(3)] + [b"", jpeg(mode="L")]
    settings = {"batch_size": 5, "on_error": "skip"}
    (expected,) = make_loader(sources, RGB, REENCODE, **settings)
    for workers in (0, 1):
        (batch,) = make_loader(sources, RGB, REENCODE, decoder="torchvision-device", workers=workers, **settings)
        assert batch.indices == [0, 1, 2, 4] and batch.image_sizes.tolist() == expected.image_sizes.tolist()
        (got,) = prepare_inputs(batch.inputs, RGB, REENCODE)
        assert (got - prepare_inputs(expected.inputs, RGB, REENCODE)[0]).abs().max() <= 1.001
    with pytest.raises(ModelError, match="'reencode' needs its pixels on the CPU"):
        JpegDataset(sources, DCT, REENCODE, decoder="torchvision-device")
    JpegDataset(sources, DCT, get_preset("voc", "native"), decoder="torchvision-device")  # decodes nothing anyway
