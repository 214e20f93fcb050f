import json

import numpy as np
import pytest

from eval.benchmark.jpeg_stage import BARE, NATIVE, READ, REENCODE, StageTimes
from eval.jpeg_stage import main
from tests.jpeg.jpeg_files import pillow_jpeg
from tests.jpeg.test_reader import needs_native


@needs_native
def test_table_and_json(tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(pillow_jpeg(60, 80 + i, seed=i))
    main(["--images", str(folder), "--limit", "2", "--rounds", "2", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert f"{folder}: 2 files" in printed
    report = json.loads((tmp_path / "out.json").read_text())
    assert {row["way"] for row in report["results"]} >= {BARE, READ, NATIVE, REENCODE}
    shares = next(row["stages_share"] for row in report["results"] if row["way"] == NATIVE)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(ratio["geometric_mean"] > 0 for ratio in report["ratios"])


def test_ratio_to_each_files_own_fastest_pixels():
    seconds = {NATIVE: [[1.0], [1.0]], "pillow + bilinear": [[2.0], [8.0]], "torchvision + bilinear": [[4.0], [4.0]]}
    times = StageTimes("two", 2, {way: np.array(values) for way, values in seconds.items()})
    assert times.ratio(NATIVE, "fastest RGB").tolist() == [0.5, 0.25]
