"""The files of shared/cases by every path that predictors and commands read by: what its table says of each."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from jpegdeep_torch import Classifier, Detector, ReadOptions, create_model, get_preset, save_weights
from jpegdeep_torch.errors import JpegError
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES
from tests.jpeg.test_cases import (
    CASES,
    DAMAGED,
    DECODED,
    OTHER_SIZES,
    REFUSED,
    SAME,
    SIZE,
    TURNED,
    UNSEEN_WITHOUT_NATIVE,
    WARNED,
    all_cases,
    contents,
)
from tests.jpeg.test_reader import needs_native
from tests.shapes import run

pytestmark = [needs_native, pytest.mark.skipif(not CASES.is_dir(), reason="no shared/cases beside the repository")]
READ = sorted(all_cases() - set(REFUSED) - set(DAMAGED))
NOT_BY_PILLOW = {"dri_but_no_rst", "no_eoi"}  # it gives an error, or half of the picture
PATHS = {f"pixels by {decoder}": ("ssd300_vgg16", "native", decoder) for decoder in DECODER_NAMES}
PATHS |= {kind: ("ssd300_vgg16_dct", kind, "native") for kind in ("native", "reencode")}


PARAMS = [pytest.param((path, True), id=path) for path in PATHS]
PARAMS += [pytest.param((path, False), id=f"{path}, no compiler", marks=pytest.mark.slow) for path in PATHS]


@functools.cache
def narrow(model: str):
    return create_model(model, 3, width=0.05)


@pytest.fixture(params=PARAMS)  # of each test alone: others must not run as without a compiler
def path(request):
    """(a function that gives a Detector of one path with its reading options, whether the native part is there)."""
    name, native = request.param
    model, coefficients, decoder = PATHS[name]
    network = narrow(model)
    with pytest.MonkeyPatch.context() as patch:
        if not native:
            for module_name, module in list(sys.modules.items()):
                if module_name.startswith("jpegdeep_torch.jpeg.") and hasattr(module, "native_module"):
                    patch.setattr(module, "native_module", lambda: None)

        def detector(batch_size: int = 1, **options) -> Detector:
            reading = ReadOptions(**options)
            return Detector(network, get_preset("voc", coefficients), batch_size=batch_size, workers=0,
                            decoder=decoder, read_options=reading)  # fmt: skip

        yield detector, native


def seen(detector: Detector, source) -> tuple[np.ndarray, tuple[int, int], list[str]]:
    """(the mean luma of each block of 8 x 8 pixels that the network sees, image size, warnings).  JpegError."""
    (batch,) = detector.read(source)
    inputs = detector.prepare(batch)
    if batch.errors:
        raise batch.errors[0][1]
    warnings = [str(warning) for warning in batch.warnings.get(0, ())]
    if detector.config.is_dct:
        blocks = inputs[0][0, 0, :37, :37].numpy() / 8 + 128
    else:
        mean = np.array(detector.preset.mean)[:, None, None]
        blocks = block_means(np.moveaxis((inputs[0][0].numpy() + mean)[::-1], 0, 2))  # blue comes first
    return blocks, tuple(batch.image_sizes[0].tolist()), warnings


def block_means(pixels: np.ndarray) -> np.ndarray:
    """(300, 300, 3) RGB -> (37, 37) luma."""
    luma = pixels @ (0.299, 0.587, 0.114)
    return luma[:296, :296].reshape(37, 8, 37, 8).mean((1, 3))


def expected(name: str) -> np.ndarray:
    """The same, by Pillow and OpenCV alone."""
    with Image.open(io.BytesIO(contents(name)), formats=["JPEG", "MPO"]) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return block_means(cv2.resize(upright, (300, 300)).astype(float))


@pytest.mark.parametrize("name", READ)
def test_whole_pictures_are_read_the_right_way_up(path, name, capfd):
    detector, native = path
    blocks, size, warnings = seen(detector(), CASES / f"{name}.jpg")
    assert size == OTHER_SIZES.get(name, SIZE[::-1] if TURNED.get(name, 1) > 4 else SIZE)
    if size[1] < 1000 and name not in NOT_BY_PILLOW:  # it would have to antialias as OpenCV does
        assert np.abs(blocks - expected(name)).mean() < 1.5
    if name in SAME:
        assert np.abs(blocks - expected("000_base")).mean() < max(1.5, SAME[name])
    if name in TURNED:
        stored = seen(detector(orientation="stored"), CASES / f"{name}.jpg")
        assert np.abs(stored[0] - expected("000_base")).mean() < 1.5 and stored[1] == SIZE
    if name in WARNED and (native or name not in UNSEEN_WITHOUT_NATIVE):
        assert any(re.search(WARNED[name], warning) for warning in warnings)
        with pytest.raises(JpegError):
            seen(detector(on_damage="strict"), CASES / f"{name}.jpg")
    elif name not in UNSEEN_WITHOUT_NATIVE and name not in DECODED:
        assert warnings == []
        seen(detector(on_damage="strict"), CASES / f"{name}.jpg")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", DECODED)
def test_what_only_a_decoder_brings_to_ycbcr_goes_by_reencode(path, name):
    detector, _ = path
    detector = detector()
    _, _, warnings = seen(detector, CASES / f"{name}.jpg")
    own_coefficients = detector.config.is_dct and detector.preset.coefficients == "native"
    assert len(warnings) == own_coefficients
    if own_coefficients:
        assert re.search("(CMYK|YCCK) JPEG.*reencode", warnings[0])
        by_reencode = Detector(
            create_model(detector.config.name, 3, width=0.05), get_preset("voc", "reencode"), workers=0
        )
        batches = (next(one.read(CASES / f"{name}.jpg")) for one in (detector, by_reencode))
        assert all((a == b).all() for a, b in zip(*(batch.inputs for batch in batches), strict=True))
    with pytest.raises(JpegError, match="strict"):
        seen(path[0](on_damage="strict"), CASES / f"{name}.jpg")


@pytest.mark.parametrize("name", [*DAMAGED, *REFUSED])
def test_what_is_refused_is_named_in_one_line(path, name, monkeypatch, capfd):
    detector, _ = path
    file = CASES / f"{name}.jpg"
    for on_damage in ("error", "strict", "tolerate"):
        if name in DAMAGED and on_damage == "tolerate":
            monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
            blocks, _, warnings = seen(detector(on_damage=on_damage), file)
            assert np.abs(blocks - expected(name)).mean() < 2 and warnings
            continue
        with pytest.raises(JpegError, match=(DAMAGED | REFUSED)[name] if on_damage != "strict" else None) as caught:
            seen(detector(on_damage=on_damage), file)
        assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_stream_over_all_of_them_reports_skips_or_raises(path):
    detector, _ = path
    detector = detector(batch_size=8)
    bad = sorted(set(DAMAGED) | set(REFUSED))
    reported = list(detector.stream(CASES, on_error="report"))
    assert [one.index for one in reported] == list(range(len(all_cases())))
    assert sorted(one.name for one in reported if one.error) == [str(CASES / f"{name}.jpg") for name in bad]
    assert all(one.value["boxes"].shape[1] == 4 for one in reported if not one.error)
    assert len(list(detector.stream(CASES, on_error="skip"))) == len(reported) - len(bad)
    with pytest.raises(JpegError, match=re.escape(f"{CASES / bad[0]}.jpg")):
        detector.predict(CASES)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Files of a classifier on pixels and of one on coefficients, for two classes."""
    folder, files = tmp_path_factory.mktemp("classifiers"), {}
    for name in ("vgg16", "vgg16_dct"):
        files[name] = folder / f"{name}.safetensors"
        save_weights(create_model(name, 2, width=0.05), files[name])
    return files


COMMANDS = [
    ("ssd300_vgg16_dct", "--coefficients", "native"),
    pytest.param("ssd300_vgg16", "--decoder", "native", marks=pytest.mark.slow),
    pytest.param("ssd300_vgg16", "--decoder", "torchvision-device", marks=pytest.mark.slow),
    pytest.param("ssd300_vgg16_dct", "--coefficients", "reencode", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("model", "flag", "value"), COMMANDS)
def test_predict(weights, tmp_path, capfd, model, flag, value):
    out = tmp_path / "out"
    arguments = [weights(model), CASES, flag, value, "--workers", 0, "-o", out]
    for turn in ("first run", "again"):
        done = run("predict", *arguments, "--sheet")
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        bad = sorted(set(DAMAGED) | set(REFUSED))
        lines = {row["file"]: row for row in map(json.loads, (out / "detections.jsonl").read_text().splitlines())}
        assert sorted(file for file, row in lines.items() if "error" in row) == [str(CASES / f"{n}.jpg") for n in bad]
        if turn == "first run":
            for name in bad:
                assert re.search(rf"{name}\.jpg: .*{(DAMAGED | REFUSED)[name]}", done.stderr)
        for name, words in WARNED.items():
            found = lines[str(CASES / f"{name}.jpg")]["warnings"]
            assert any(re.search(re.split(r" (\.\*|\\\()", words)[0], text) for text in found)
        summary = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
        assert sum(int(line.split()[1]) for line in summary if "extraneous bytes before" in line) == 7
        assert sum("reencode" in line for line in summary) == 2 * (value == "native" and model.endswith("dct"))
        assert f"{len(bad)} could not be read" in done.stderr.splitlines()[-1]
        assert capfd.readouterr() == ("", "")
    for name, orientation in TURNED.items():
        height, width = SIZE[::-1] if orientation > 4 else SIZE
        row = lines[str(CASES / f"{name}.jpg")]
        assert (row["height"], row["width"]) == (height, width)
        (picture,) = (out / "pictures").glob(f"*_{name}.jpg")
        with Image.open(picture) as image:
            assert image.size == (width, height)
    assert len(list((out / "pictures").iterdir())) == len(lines) - len(bad)
    assert (out / "contact_sheet_001.jpg").is_file()
    other = run("predict", *arguments, "--on-damage", "tolerate")
    assert other.returncode == 2 and "on_damage was 'error', is 'tolerate'" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("model", "flag", "value"), COMMANDS)
def test_predict_s_options(weights, model, flag, value):
    def verdicts(*options) -> tuple[set[str], list[dict]]:
        done = run("predict", weights(model), CASES, flag, value, "--workers", 0, *options)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return {row["file"].rsplit("/")[-1][:-4] for row in rows if "error" in row}, rows

    assert verdicts("--on-damage", "tolerate")[0] == set(REFUSED)
    assert verdicts("--on-damage", "strict")[0] == {*REFUSED, *DAMAGED, *DECODED, *WARNED}
    bad, rows = verdicts("--orientation", "stored", "--max-memory-mb", 1)
    assert bad == {*REFUSED, *DAMAGED, "pano_65500x8", "rgb_123_adobe0_no_jfif", "rgb_ids_no_adobe"}
    assert {(row["height"], row["width"]) for row in rows if "exif" in row["file"]} == {SIZE}


def test_networks_on_pixels_and_on_coefficients_are_compared_on_the_same_files(classifiers, tmp_path):
    for place, name in enumerate(sorted(all_cases())):
        target = tmp_path / "set" / f"class_{place % 2}" / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CASES / f"{name}.jpg", target)
    records = []
    for model, options in (("vgg16", ()), ("vgg16_dct", ("--coefficients", "native")), ("vgg16_dct", ())):
        records.append(tmp_path / f"{len(records)}.json")
        done = run("imagenet", classifiers[model], tmp_path / "set", "--lenient", "--json", records[-1],
                   "--report", tmp_path / "report", *options)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{len(DAMAGED) + len(REFUSED)} x unreadable picture" in done.stderr and "warning: " in done.stderr
    for other in records[1:]:
        done = run("compare", records[0], other, "--resamples", 20)
        assert done.returncode == 0 and f"{len(READ)} images" in done.stdout, done.stderr


def test_a_strip_costs_a_classifier_little(classifiers, tmp_path):
    strip = tmp_path / "strip.jpg"
    Image.fromarray(np.tile(np.arange(20000, dtype=np.uint16).astype(np.uint8)[:, None, None], (1, 1, 3))).save(strip)
    for file in classifiers.values():
        for coefficients in ("native", "reencode"):
            (found,) = Classifier.load(file, workers=0, coefficients=coefficients).predict([strip])
            assert len(found["classes"]) == 2
