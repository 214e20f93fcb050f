"""The detector as an object: parity, order, errors, memory."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from jpegdeep_torch.data import Batch
from jpegdeep_torch.errors import BackendUnavailable, CheckpointError, JpegError, ModelError
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.inference.sources import expand_sources
from jpegdeep_torch.keras import convert_keras

BIG = int(os.environ.get("JPEGDEEP_MANY_FILES", "0"))  # 10000 for the test at full size


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in ("boxes", "scores", "labels"))


def nearly(a: dict, b: dict) -> bool:
    """Equal but for what another batch size's order of additions does to a float32."""
    return (
        torch.equal(a["labels"], b["labels"])
        and torch.allclose(a["scores"], b["scores"], atol=1e-5)
        and torch.allclose(a["boxes"], b["boxes"], atol=1e-2)
    )


def golden_inputs(name: str, golden) -> list[torch.Tensor]:
    """The stored inputs as a Batch has them: RGB pixels, or luma and chroma."""
    stored = [torch.from_numpy(golden[key]) for key in sorted(golden.files) if key.startswith("input_")]
    if name == "ssd300_vgg16":  # stored as the network takes it: blue first, less the mean
        stored = [(stored[0] + torch.tensor([103.939, 116.779, 123.68])).flip(-1)]
    if len(stored) == 3:
        stored = [stored[0], torch.cat(stored[1:], dim=-1)]
    return [tensor.permute(0, 3, 1, 2) for tensor in stored]


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_vgg16_dct", "ssd300_vgg16_dct_deconv"])
def test_a_converted_checkpoint_gives_the_golden_detections_in_original_pixels(shared, unpacked, tmp_path, name):
    golden = np.load(shared / "reference" / "golden" / f"{name}.npz")
    convert_keras(unpacked(name), tmp_path / "w.safetensors")
    detector = Detector.load(tmp_path / "w.safetensors")
    height, width = 375, 500
    batch = Batch(tuple(golden_inputs(name, golden)), torch.tensor([[height, width]]), [0], [name])
    (found,) = detector.postprocess(detector.forward(detector.prepare(batch)), batch.image_sizes)
    expected = torch.from_numpy(golden["detections"][0])
    boxes = expected[:, 2:] * torch.tensor([width / 300, height / 300] * 2)
    limits = torch.tensor([width, height] * 2)
    assert torch.equal(found["labels"], expected[:, 0].long())
    assert torch.allclose(found["scores"], expected[:, 1], atol=1e-4)
    assert torch.allclose(found["boxes"], torch.minimum(boxes.clamp(min=0), limits), atol=0.05 * width / 300)


def test_order_is_kept_whatever_reads(weights, dataset):
    files = [str(path) for path in sorted((dataset / "JPEGImages").iterdir())]
    shuffled = [files[k] for k in np.random.default_rng(0).permutation(len(files))]
    results = {}
    for workers in (0, 1, 4):
        detector = Detector.load(weights(), batch_size=4, workers=workers)
        predictions = list(detector.stream(shuffled))
        assert [prediction.name for prediction in predictions] == shuffled
        assert [prediction.index for prediction in predictions] == list(range(len(files)))
        results[workers] = [prediction.value for prediction in predictions]
    for workers in (1, 4):
        assert all(same(a, b) for a, b in zip(results[0], results[workers], strict=True))
    alone = [Detector.load(weights(), workers=0)(path)[0] for path in shuffled[:3]]
    assert all(nearly(a, b) for a, b in zip(alone, results[0]))


def test_paths_bytes_folders_and_mixtures(weights, dataset, tmp_path):
    detector = Detector.load(weights(), workers=0)
    folder = dataset / "JPEGImages"
    files = sorted(folder.iterdir())
    whole = detector(folder)
    assert len(whole) == len(files)
    boxes, scores = whole[0]["boxes"], whole[0]["scores"]
    assert boxes.dtype == torch.float32 and whole[0]["labels"].dtype == torch.int64 and len(scores) > 5
    assert (scores.diff() <= 0).all() and (boxes[:, 2] <= 200).all() and (boxes[:, 3] <= 150).all()
    for source in (files[0], str(files[0]), files[0].read_bytes(), [files[0]]):
        (found,) = detector(source)
        assert nearly(found, whole[0])
    mixed = detector([files[2].read_bytes(), folder])
    assert len(mixed) == len(files) + 1 and nearly(mixed[0], whole[2])
    assert detector([]) == []
    (tmp_path / "b").mkdir()
    for name in ("b/2.jpg", "b/1.JPEG", "a.jpg", "c.txt"):
        (tmp_path / name).write_bytes(files[0].read_bytes())
    assert [Path(p).name for p in expand_sources(tmp_path)] == ["a.jpg", "1.JPEG", "2.jpg"]


def test_the_rgb_twin_takes_the_same_path(weights, dataset):
    files = sorted((dataset / "JPEGImages").iterdir())[:5]
    detector = Detector.load(weights("ssd300_vgg16"), batch_size=2, workers=1)
    assert [len(found["scores"]) > 0 for found in detector(files)] == [True] * 5


def test_bad_files_raise_are_left_out_or_reported(weights, dataset, tmp_path):
    files = sorted((dataset / "JPEGImages").iterdir())[:4]
    data = files[1].read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"not a picture")
    bad = [tmp_path / "cut.jpg", tmp_path / "empty.jpg", tmp_path / "text.jpg", tmp_path / "absent.jpg"]
    mixed = [bad[0], files[0], bad[1], bad[2], bad[3], files[1]]  # the second batch has nothing to run
    detector = Detector.load(weights(), batch_size=2, workers=0)
    with pytest.raises(JpegError, match=r"cut\.jpg"):
        detector(mixed)
    assert len(detector(mixed, on_error="skip")) == 2
    predictions = list(detector.stream(mixed, on_error="report"))
    assert [prediction.error is None for prediction in predictions] == [False, True, False, False, False, True]
    assert [prediction.index for prediction in predictions] == list(range(6))
    assert [Path(p.error.name).name for p in predictions if p.error] == [path.name for path in bad]
    good = [prediction.value for prediction in predictions if prediction.error is None]
    assert all(nearly(a, b) for a, b in zip(good, detector(files[:2])))
    with pytest.raises(ModelError, match="on_error is 'ignore'"):
        detector(mixed, on_error="ignore")


def test_mistakes_are_named(weights, tmp_path):
    with pytest.raises(ModelError, match="batch size is 0"):
        Detector.load(weights(), batch_size=0)
    with pytest.raises(ModelError, match="workers is -1"):
        Detector.load(weights(), workers=-1)
    with pytest.raises(CheckpointError, match="no such file"):
        Detector.load(tmp_path / "absent.safetensors")
    if not torch.cuda.is_available():
        with pytest.raises(BackendUnavailable, match="cuda"):
            Detector.load(weights(), device="cuda")


def test_a_stream_is_lazy(weights, dataset):
    taken = []

    def endless():
        file = str(sorted((dataset / "JPEGImages").iterdir())[0])
        while True:
            taken.append(file)
            yield file

    detector = Detector.load(weights(), batch_size=2, workers=0)
    assert len(list(islice(detector.stream(endless()), 6))) == 6
    assert len(taken) <= 6 + 3 * 2


def test_many_files_with_bad_ones_in_flat_memory(weights, dataset, tmp_path, request):
    """10,000 BCCD links with 1% cut with JPEGDEEP_MANY_FILES=10000; by default fewer of the small pictures."""
    count = BIG or 300
    pictures = dataset / "JPEGImages"
    if BIG:
        pictures = request.getfixturevalue("shared") / "data" / "bccd" / "JPEGImages"
    originals = sorted(pictures.iterdir())
    rng = np.random.default_rng(1)
    bad = set(rng.choice(count, max(3, count // 100), replace=False).tolist())
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(count):
        path, original = folder / f"{k:06d}.jpg", originals[k % len(originals)]
        if k in bad:
            data = original.read_bytes()
            path.write_bytes(data[: int(rng.integers(0, len(data) - 2))])
        else:
            path.symlink_to(original)
    detector = Detector.load(weights(), batch_size=8, workers=1)
    one_by_one = Detector.load(weights(), batch_size=1, workers=0)
    expected = [one_by_one(path)[0] for path in originals]
    process, memory, failed = psutil.Process(), [], []
    for prediction in detector.stream(folder, on_error="report"):
        k = prediction.index
        if prediction.error is not None:
            failed.append(k)
            assert prediction.error.name == str(folder / f"{k:06d}.jpg")
        else:
            assert nearly(prediction.value, expected[k % len(originals)]), prediction.name
        if k % 50 == 0:
            family = [process, *process.children(recursive=True)]
            memory.append(sum(member.memory_info().rss for member in family) / 2**20)
    assert failed == sorted(bad)
    settled = memory[len(memory) // 3]
    print(f"{count} files, {len(bad)} bad: {settled:.0f} MiB after a third, {max(memory):.0f} MiB at most")
    assert max(memory[len(memory) // 3 :]) - settled < 40
