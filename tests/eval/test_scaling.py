"""Fits, prediction, memory and the cores that feed a GPU."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
import pytest

from eval.benchmark.candidates import Sample
from eval.benchmark.networks import make_network
from eval.benchmark.photos import builtin_jpegs, mosaic_jpegs
from eval.benchmark.threads import threads_set_to
from eval.study.feeding import PUBLISHED, cores_per_gpu
from eval.study.fits import Line, line, power_law
from eval.study.memory import MemoryPoint, measure_memory
from eval.study.scaling import HERE, Ladder, _memory, doubling, measure_scaling, megapixels
from eval.study.scaling_page import scaling_lines
from eval.study.scaling_plots import draw_scaling
from eval.study.throughput_model import Host, Model, Parts, checking_points, fit, fitting_points, measure_prediction
from jpegdeep_torch.errors import JpegDeepError
from jpegdeep_torch.jpeg.header import read_header
from jpegdeep_torch.jpeg.pixels import decode_rgb
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg


def test_laws_are_found_again():
    sizes = [1, 2, 4, 8]
    law = power_law(sizes, [3 * size**0.7 for size in sizes])
    assert law.exponent == pytest.approx(0.7) and law.at_one == pytest.approx(3) and law.spread < 1e-9
    straight = line(sizes, [5 + 2 * size for size in sizes])
    assert (straight.start, straight.slope) == (pytest.approx(5), pytest.approx(2)) and straight(10) == pytest.approx(
        25
    )
    assert power_law([1, 4], [1, 1]).exponent == pytest.approx(0)
    # Relative least squares by hand: 477 y = 720 x - 270, which is 0.34 short of the 6.
    relative = line([1, 2, 3], [1.0, 2.0, 6.0])
    assert (relative.start, relative.slope) == (pytest.approx(-270 / 477), pytest.approx(720 / 477))
    assert relative.spread == pytest.approx(1 - 1890 / 477 / 6)
    assert doubling(1) == (1,) and doubling(2) == (1, 2) and doubling(6) == (1, 2, 4, 6)


def _simulated_ms(read: float, main: float, workers: int, images: int = 400) -> float:
    """Workers on cores of their own that read image after image, and a main process that takes them in order."""
    free, clock, read_at = [0.0] * workers, 0.0, []
    for _ in range(images):
        done = heapq.heappop(free) + read
        heapq.heappush(free, done)
        read_at.append(done)
    for ready in read_at:
        clock = max(clock, ready) + main
    return clock / images


@pytest.mark.parametrize("read", [1.0, 7.0, 30.0])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_with_cores_to_spare_the_formula_is_a_pipeline(read, workers):
    predicted = Parts(read, transfer=1, network=6, nms=2, handover=1).end_to_end(workers, Host(cores=64, threads=1))
    assert predicted == pytest.approx(_simulated_ms(read, 10, workers), rel=0.1)


def test_the_formula_by_hand():
    parts = Parts(read=4, transfer=1, network=10, nms=1, handover=0.5)
    assert parts.end_to_end(0, Host(2, 2)) == 16  # one after the other, nothing handed over
    assert parts.end_to_end(1, Host(2, 2)) == pytest.approx((1 + 1 + 0.5 + 20 + 4) / 2)  # both cores at work
    assert parts.end_to_end(1, Host(2, 2), 1.2) == pytest.approx(12.5 + 1.2 * 4)  # the network is held up
    assert parts.end_to_end(1, Host(8, 2)) == 12.5
    assert parts.end_to_end(1, Host(8, 2), 1.2) == pytest.approx(12.5 + 1.2)  # on a quarter of the cores
    assert parts.end_to_end(1, Host(8, 0), 1.2) == 12.5
    assert dataclasses.replace(parts, read=100).end_to_end(4, Host(8, 0)) == 25  # a GPU that waits for four workers


def test_a_known_machine_is_found_again():
    """Samples made from a model: the fit gives that model, and so its predictions of other points."""
    networks = {"rgb": _config(False), "dct": _config(True)}
    kinds = ("native", "reencode")
    true = Model(
        Host(2, 2),
        {"rgb": Line(3.0, 20.0, 0), "dct": Line(2.0, 8.0, 0)},
        {"rgb": 1.5, "dct": 1.5},
        {"rgb": 0.5, "dct": 0.2},
        {("rgb", None): Line(1, 9, 0), ("dct", None): Line(0.5, 5, 0), ("dct", "reencode"): Line(2, 8, 0)},
        handover=2.0,
        delay=1.1,
    )

    def sample(point) -> Sample:
        parts, images = true.parts(point), 10
        wait = parts.handover if point.workers else parts.read
        stages = {"wait": wait, "transfer": parts.transfer, "network": parts.network, "nms": parts.nms}
        seconds = images / true.images_per_s(point)
        return Sample(images, seconds, {stage: images * ms for stage, ms in stages.items()})

    fitting, checking = fitting_points(networks, kinds), checking_points(networks, kinds)
    assert not set(fitting) & set(checking)
    found = fit({point: [sample(point)] * 3 for point in fitting}, true.host)
    assert found.delay == pytest.approx(1.1, abs=0.011) and found.handover == pytest.approx(2.0)
    for point in checking:
        assert found.images_per_s(point) == pytest.approx(true.images_per_s(point), rel=0.01)


def _config(is_dct: bool):
    """As much of a Network as the choice of points asks for."""
    return type("Named", (), {"config": type("Config", (), {"is_dct": is_dct})})


def test_ten_settings_are_predicted():
    networks = {name: _config("dct" in name) for name in ("rgb", "dct", "narrow rgb", "narrow dct")}
    assert len(checking_points(networks, ("native", "reencode"))) >= 10


def test_cores_by_hand():
    (first, *_), rest = cores_per_gpu(Line(1, 4, 0), Line(0, 2, 0), 1.0), PUBLISHED[1]
    assert first.rgb_cores == pytest.approx(108.7 * 0.005) and first.dct_cores == pytest.approx(227.0 * 0.002)
    second = cores_per_gpu(Line(1, 4, 0), Line(0, 2, 0), 1.0)[1]
    assert second.extrapolated and second.dct_per_s == pytest.approx(rest.rgb * 227.0 / 108.7)


def test_mosaics():
    photographs = builtin_jpegs(4)
    (one,) = mosaic_jpegs(photographs, 2, 1)
    header = read_header(one)
    assert (header.width, header.height) == (1000, 750) and megapixels(2) == 0.75
    assert 3 < len(one) / np.mean([len(data) for data in photographs]) < 5
    for corner, data in zip((np.s_[:375, :500], np.s_[:375, 500:], np.s_[375:, :500], np.s_[375:, 500:]), photographs):
        difference = decode_rgb(one)[corner].astype(int) - decode_rgb(data)
        assert np.abs(difference).mean() < 4  # compressed twice
    first, second, third = mosaic_jpegs([jpeg(), *photographs[:1]], 1, 3)  # of any size, over and over
    assert first == third != second and (read_header(first).width, read_header(first).height) == (500, 375)


@pytest.fixture(scope="module")
def network():
    return make_network("ssd300_vgg16_dct", [jpeg()], width=0.05)


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(network, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    weights = tmp_path / "w.safetensors"
    save_weights(create_model("ssd300_vgg16_dct", width=0.2, seed=0), weights)
    ballast = np.ones(200 << 20, np.uint8)  # of this process: must not be counted
    use = measure_memory(MemoryPoint(str(weights), str(tmp_path), batch_size=2, workers=1, batches=2))
    assert ballast[0] and use.imported > 100 and use.workers > 0
    assert weights.stat().st_size / 2**20 < use.peak < 200
    with pytest.raises(JpegDeepError, match="nowhere"):
        measure_memory(MemoryPoint("nowhere.safetensors", str(tmp_path)))


@pytest.mark.slow
def test_memory_is_told_by_every_size(network):
    ladder = Ladder((1, 2), threads=(1,), workers=(1, 2), tiles=(1, 2), batch_size=2)
    mosaics = {tiles: mosaic_jpegs([jpeg()], tiles, 2) for tiles in ladder.tiles}
    with threads_set_to(1):
        rows = _memory("net", network, ladder, mosaics, HERE)
    assert {row["varies"]: list(row["sizes"]) for row in rows} == {
        "batch": [1, 2], "megapixels": [0.1875, 0.75], "threads": [1], "workers": [1, 2]
    }  # fmt: skip
    costs = {row["varies"]: row["costs"] for row in rows}
    assert costs["batch"][1] == costs["threads"][0]  # the same run, measured once
    assert all(cost > 0 for each in costs.values() for cost in each)
    assert costs["workers"][1] > costs["workers"][0]


@pytest.mark.slow
def test_scaling_and_prediction_are_told(network, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.study.scaling._memory", lambda *_: [])
    monkeypatch.setattr("eval.study.scaling._FILES", 2)
    ladder = Ladder((1, 2), threads=(1,), workers=(1,), tiles=(1, 2), batch_size=2)
    rows = measure_scaling({"net": network}, [jpeg()], ("native",), ladder, seconds=0)
    assert {(row["varies"], row["coefficients"]) for row in rows} == {
        ("batch", None), ("threads", None), ("workers", "native"), ("megapixels", "native")
    }  # fmt: skip
    by_size = next(row for row in rows if row["varies"] == "megapixels")
    assert by_size["sizes"] == [0.1875, 0.75] and by_size["costs"][1] > by_size["costs"][0] > 0
    monkeypatch.setattr("eval.study.throughput_model._FILES", 2)
    monkeypatch.setattr("eval.study.throughput_model._SAMPLE_S", 0.0)
    found = measure_prediction({"net": network}, [jpeg()], ("native",), seconds=0)
    for row in found["checked"]:
        assert row["predicted"] > 0 and row["error"] == pytest.approx(row["predicted"] / row["measured"] - 1)
    page = "\n".join(scaling_lines(rows, found))
    assert "(two points)" in page and f"{found['delay']:.2f}" in page
    assert draw_scaling(rows, found, tmp_path) == ["scaling.png", "prediction.png"]
