"""DetectorActor alone, in every form of batch, and on two Ray nodes: the rows are those of `jpegdeep predict`."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from jpegdeep_torch import Detector, predict_shards
from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.inference.writer import Selection
from jpegdeep_torch.integrations.ray import DetectorActor
from tests.scale.shards import samples
from tests.shapes import ROOT

pa = pytest.importorskip("pyarrow", reason="the extra 'scale' is not installed")
pq = pytest.importorskip("pyarrow.parquet")
FILES = samples(40)
SCORE = 0.05
COLUMNS = ("file", "height", "width", "boxes", "scores", "labels", "error")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, data in FILES:
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def expected(folder, weights, tmp_path_factory) -> list[dict]:
    """One process's rows."""
    out = tmp_path_factory.mktemp("expected")
    detector = Detector.load(weights(), batch_size=4, workers=0)
    assert not predict_shards(detector, [str(folder)], str(out), selection=Selection(SCORE)).failed
    return pq.read_table(out / f"{folder.name}.parquet").to_pylist()


def actor(weights, **options) -> DetectorActor:
    return DetectorActor(weights(), threshold=SCORE, batch_size=4, **options)


def test_every_form_of_batch(weights, folder, expected):
    detect = actor(weights)
    names, datas = [name for name, _ in FILES], [data for _, data in FILES]
    objects = np.empty(40, object)
    objects[:] = datas
    for batch in (
        {"file": np.array(names), "bytes": objects},
        pa.table({"file": names, "bytes": datas}),
        pa.RecordBatch.from_pydict({"file": names, "jpg": datas}),
        {"file": names, "image": [{"bytes": data, "path": None} for data in datas]},
    ):
        assert detect(batch).to_pylist() == expected
    rows = [row for start in range(0, 40, 7) for row in detect({"bytes": datas[start : start + 7]}).to_pylist()]
    assert [{"file": name, **row} for name, row in zip(names, rows, strict=True)] == expected
    paths = [str(folder / name) for name in names]
    found = detect({"path": [*paths, str(folder / "none.jpg")]}).to_pylist()
    assert [row.pop("path") for row in found[:-1]] == paths
    assert found[:-1] == [{key: value for key, value in row.items() if key != "file"} for row in expected]
    assert found[-1]["error"] == "cannot be fetched (no such file)"
    assert detect({"bytes": [None]}).to_pylist()[0]["error"] == "no bytes in this row"
    assert detect({"bytes": []}).num_rows == 0
    with pytest.raises(DatasetError, match="a batch of columns a, b, expected one of bytes"):
        detect({"a": [1], "b": [2]})


@pytest.fixture(scope="module")
def ray():
    """Ray with two local nodes of one core each."""
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster

    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)  # which the nodes' workers inherit
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 80 << 20})
    cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()
    cluster.shutdown()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


def job(ray, weights, folder, out, actor=DetectorActor, **options):
    """What examples/ray_detect.py does, on two actors."""
    data = ray.data.read_binary_files(str(folder), include_paths=True, override_num_blocks=8)
    data = data.map_batches(
        actor, fn_constructor_args=[str(weights())],
        fn_constructor_kwargs={"threshold": SCORE, "batch_size": 4, **options}, batch_size=5, num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=2),
    )  # fmt: skip
    data.write_parquet(str(out))


def rows_in(out) -> list[dict]:
    table = pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("*.parquet"))])
    rows = [{"file": os.path.basename(row.pop("path")), **row} for row in table.to_pylist()]
    return sorted(rows, key=lambda row: row["file"])


@pytest.mark.slow
def test_ray_on_two_nodes_gives_the_same_rows(ray, weights, folder, expected, tmp_path):
    job(ray, weights, folder, tmp_path / "out")
    rows = rows_in(tmp_path / "out")
    assert tuple(rows[0]) == COLUMNS and rows == expected


class Killed(DetectorActor):
    """An actor whose process is killed (-9) in the middle of a batch, as often as there are files in `lives`."""

    def __init__(self, *arguments, lives, **options):
        super().__init__(*arguments, **options)
        self.lives = Path(lives)

    def __call__(self, batch):
        found = super().__call__(batch)
        for life in self.lives.iterdir():
            with contextlib.suppress(FileNotFoundError):
                life.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return found


@pytest.mark.slow
def test_actors_that_are_killed_lose_no_row(ray, weights, folder, expected, tmp_path):
    lives = tmp_path / "lives"
    lives.mkdir()
    for k in range(3):
        (lives / str(k)).touch()
    job(ray, weights, folder, tmp_path / "out", Killed, lives=str(lives))
    assert not list(lives.iterdir()) and rows_in(tmp_path / "out") == expected
