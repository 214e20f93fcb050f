"""Shards: what is read of them, in good and in bad storage."""

from __future__ import annotations

import itertools
import os
import random
import tarfile
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jpegdeep_torch.data import shards as shards_module
from jpegdeep_torch.data.shards import expand_shards, is_shard, output_names, read_shard
from jpegdeep_torch.errors import DatasetError, StorageError
from jpegdeep_torch.utils import storage
from jpegdeep_torch.utils.storage import Retry, list_folder, read_file, write_file
from tests.scale.shards import samples, write_tar

FILES = samples(20)
QUICK = Retry(6, 0.001)


class Unreliable(MemoryFileSystem):
    """Storage of which every tenth request fails, and every seventh answer breaks off in the middle."""

    protocol = "unreliable"
    requests = itertools.count(1)

    def cat_file(self, path, start=None, end=None, **options):
        number = next(self.requests)
        if number % 10 == 0:
            raise OSError("503 Slow Down")
        data = super().cat_file(path, start=start, end=end, **options)
        return data[: len(data) // 2] if number % 7 == 0 and start is not None else data

    def info(self, path, **options):
        if next(self.requests) % 10 == 0:
            raise TimeoutError
        return super().info(path, **options)


fsspec.register_implementation("unreliable", Unreliable, clobber=True)


def found(shard: object, retry: Retry = QUICK) -> list[tuple[str, bytes | None]]:
    return [(file.name, file.data) for file in read_shard(str(shard), retry)]


@pytest.fixture
def tar(tmp_path) -> Path:
    return write_tar(tmp_path / "a.tar", FILES)


def test_patterns(tmp_path):
    assert expand_shards(["a-{08..11}.tar"]) == [f"a-{k}.tar" for k in ("08", "09", "10", "11")]
    assert expand_shards(["{x,y}/{0..1}.parquet"]) == ["x/0.parquet", "x/1.parquet", "y/0.parquet", "y/1.parquet"]
    for name in ("b.tar", "a.tar"):
        write_tar(tmp_path / name, FILES[:1])
    assert expand_shards([f"{tmp_path}/*.tar"]) == [str(tmp_path / "a.tar"), str(tmp_path / "b.tar")]
    assert expand_shards([str(tmp_path)]) == [str(tmp_path)]
    (tmp_path / "a.zip").touch()
    for wrong, words in (
        ("a{3..1}.tar", "counts down"), ("a{b}.tar", "expected {0000..0999} or {a,b}"),
        (f"{tmp_path}/*.parquet", "fits no file"), (str(tmp_path / "a.zip"), "expected a folder, or a file ending in"),
    ):  # fmt: skip
        with pytest.raises(DatasetError) as error:
            expand_shards([wrong])
        assert words in str(error.value)
    assert all(map(is_shard, ("s3://b/x", "a.tar", "a.parquet", "x{0..3}/", "http://h/a.tar")))
    assert not any(map(is_shard, ("photos", "a.jpg", "http://camera/video", "a{b}.jpg")))
    assert output_names(["s/a.tar", "s/b/", "c.parquet"]) == {"a": "s/a.tar", "b": "s/b/", "c": "c.parquet"}
    with pytest.raises(DatasetError, match="results of both would be named a"):
        output_names(["s/a.tar", "t/a.tar"])


def test_tar_folder_and_parquet_hold_the_same(tar, tmp_path):
    assert found(tar) == FILES
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for k, (name, data) in enumerate(FILES):
        (tmp_path / "folder" / ("below" if k % 2 else "") / name).write_bytes(data)
    (tmp_path / "folder" / "notes.txt").write_text("no JPEG")
    assert sorted((Path(name).name, data) for name, data in found(tmp_path / "folder")) == FILES


def test_parquet_of_bytes_and_of_addresses(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    names, datas = [name for name, _ in FILES], [data for _, data in FILES]
    pq.write_table(pa.table({"path": names, "bytes": datas, "other": [1.0] * 20}), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet") == FILES
    images = [{"bytes": data, "path": name} for name, data in FILES]  # as Hugging Face's datasets have them
    pq.write_table(pa.table({"image": [*images, None]}), tmp_path / "b.parquet")
    assert found(tmp_path / "b.parquet") == [*FILES, ("20", None)]
    (tmp_path / "files").mkdir()
    for name, data in FILES:
        (tmp_path / "files" / name).write_bytes(data)
    (tmp_path / "files" / names[5]).unlink()
    urls = [f"files/{name}" for name in names]
    pq.write_table(pa.table({"url": urls}), tmp_path / "c.parquet")
    read = list(read_shard(str(tmp_path / "c.parquet"), QUICK))
    assert [file.name for file in read] == urls
    assert [file.data for file in read] == [*datas[:5], None, *datas[6:]]
    assert read[5].error == "cannot be fetched (no such file)"
    pq.write_table(pa.table({"label": [1]}), tmp_path / "d.parquet")
    with pytest.raises(StorageError, match="its columns are label, expected one of bytes, image"):
        found(tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(StorageError, match=r"e\.parquet: not a Parquet file"):
        found(tmp_path / "e.parquet")


def test_a_tar_that_is_cut_off_anywhere_is_an_error_and_never_a_shorter_shard(tar):
    """tarfile takes a header that it cannot read for the end."""
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        second = opened.getmembers()[1].offset
        end = max(member.offset_data + member.size for member in opened)
    end += -end % 512
    chance = random.Random(0)
    headers = [k * 512 + d for k in range(1, end // 512) for d in (0, 100)]
    for cut in [0, 1, 511, 512, 513, end - 1, end, *chance.sample(range(end), 40), *chance.sample(headers, 20)]:
        tar.write_bytes(whole[:cut])
        with pytest.raises(StorageError, match=r"a\.tar"):
            found(tar)
    tar.write_bytes(whole[:second] + b"\xff" * 512 + whole[second + 512 :])
    with pytest.raises(StorageError):
        found(tar)
    tar.write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(StorageError, match="not a tar file"):
        found(tar)


def test_a_file_too_large_for_memory_is_one_bad_file(tar, monkeypatch):
    monkeypatch.setattr(shards_module, "_LARGEST_FILE_BYTES", max(len(data) for _, data in FILES) - 1)
    read = list(read_shard(str(tar)))
    assert len(read) == 20 and sum(file.data is None for file in read) == 1
    assert next(file.error for file in read if file.error).startswith("3")


@pytest.mark.parametrize("block", [1 << 10, 1 << 23])
def test_storage_that_fails_is_tried_again(tar, monkeypatch, block):
    monkeypatch.setattr(storage, "_BLOCK_BYTES", block)
    write_file("unreliable://b/a.tar", tar.read_bytes())
    for name, data in FILES:
        write_file(f"unreliable://b/folder/{name}", data)
    for _ in range(3):
        assert found("unreliable://b/a.tar") == FILES
        assert found("unreliable://b/folder") == FILES
    assert next(Unreliable.requests) > 40
    assert list_folder("unreliable://b/folder") == [name for name, _ in FILES]
    assert list_folder("unreliable://b/none") == []
    for missing in ("unreliable://b/none.tar", "unreliable://b/none", str(tar.with_name("none.tar"))):
        with pytest.raises(StorageError, match="no such f"):
            found(missing)
    once, requests = Retry(1, 0.0), 0
    with pytest.raises(
        StorageError, match=r"a\.tar: (503 Slow Down|TimeoutError|\d+ bytes came, expected \d+) \(1 times"
    ):
        while requests < 100:
            found("unreliable://b/a.tar", once)
            requests += 1


def test_a_file_is_written_whole_and_what_a_kill_left_is_taken_away(tmp_path, monkeypatch):
    target = tmp_path / "new" / "a.parquet"
    target.parent.mkdir()
    (target.parent / ".a.parquet.k1ll3d").write_bytes(b"half")
    write_file(str(target), b"whole")
    assert os.listdir(target.parent) == ["a.parquet"] and read_file(str(target)) == b"whole"
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(StorageError):
        write_file(str(target), b"other", QUICK)
    assert os.listdir(target.parent) == ["a.parquet"] and target.read_bytes() == b"whole"


def test_what_is_not_installed_is_named():
    with pytest.raises(StorageError, match=r"nosuch://b/a\.tar: Protocol not known: nosuch"):
        read_file("nosuch://b/a.tar")
