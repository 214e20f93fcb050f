"""What is checked before any work: one error for configuration, data, folder, device and the weights to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from jpegdeep_torch.cli.train import main as training
from jpegdeep_torch.errors import ConfigError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.training.config import load_config
from jpegdeep_torch.training.datasets import read_training_data
from jpegdeep_torch.weights import save_weights
from tests.training.make_dataset import make_voc
from tests.training.runs import TINY, train, write_config

CLASSIFIER = """
[model]
name = "vgg16_dct"
width = 0.03
[data]
kind = "imagenet"
preset = "imagenet"
train = [{{ root = "{root}", set = "train" }}]
workers = 0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("data") / "voc", count=4)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "classifier.safetensors"
    save_weights(create_model("vgg16_dct", 3, width=0.03, seed=1), path)
    return path


def refused(config: Path, *arguments: str) -> str:
    """The error of a run that cannot begin."""
    with pytest.raises(ConfigError) as caught:
        training([str(config), *arguments])
    return str(caught.value)


def lists(message: str, *parts: str) -> None:
    assert f" {len(parts)} mistakes: " in message, message
    for part in parts:
        assert part in message, (part, message)


def copied(data: Path, folder: Path) -> Path:
    return Path(shutil.copytree(data, folder / "copy"))


def test_no_mistake_hides_another(data, tmp_path):
    config = write_config(tmp_path, data)
    message = refused(
        config, "--init", str(tmp_path / "none.safetensors"), "--set", "run.speed=1", "run.device=meta",
        f"data.train=[{{root='{tmp_path}/nowhere', set='train'}}]", "data.classes=['disc', 'circle']",
        "model.name=vgg16", "model.scale_to_data=true", "augmentation.flip=true", "augmentation.contrast=[2.0, 1.0]",
    )  # fmt: skip
    lists(
        message, "run.speed: unknown key", "augmentation.flip: unknown key", "augmentation: contrast is (2, 1)",
        "data.coefficients: 'native', expected 'pixels'",
        "data.kind: 'voc' does not fit", "model.scale_to_data: is for fresh",
        "nowhere: no such folder", "(square ", "no folder to write to", "run.device: 'meta' cannot be used here",
        "model.init: ",
    )  # fmt: skip
    assert "none.safetensors: no such file" in message


def test_each_unknown_class_is_named_once(data, tmp_path):
    message = refused(write_config(tmp_path, data), "--check", "--set", "data.classes=['circle', 'triangle']")
    lists(message, "unknown class (disc ", "data.classes: no object in the training sets is a circle or a triangle")
    assert message.count("expected one of circle, triangle") == 1 and ", square " in message


def test_names_that_no_training_image_has(data, tmp_path, capsys):
    config = write_config(tmp_path, data)
    names = "data.classes=['disc', 'square', 'ring']"
    lists(refused(config, "--check", "--set", names), "no object in the training sets is a ring")
    # Whether the missing set has rings nobody can say.
    missing = f"data.train=[{{root='{data}', set='train'}}, {{root='{data}', set='trian'}}]"
    lists(refused(config, "--check", "--set", names, missing), "trian.txt: no such image set")
    lists(refused(config, "--check", "--set", "data.classes=[]"), "data.classes: empty")


def test_the_published_names_may_be_absent(data, tmp_path, capsys):
    root = copied(data, tmp_path)
    for path in (root / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace(">disc<", ">cat<").replace(">square<", ">dog<"))
    training([str(write_config(tmp_path, root)), "--check", "--set", "data.classes=voc"])
    said = capsys.readouterr().out
    assert "20 classes" in said and "no object in the training sets is a aeroplane or a bicycle" in said


def test_no_class_at_all(data, folders, tmp_path):
    root = copied(data, tmp_path)
    for path in (root / "Annotations").glob("*.xml"):
        path.write_text("<annotation/>")
    lists(refused(write_config(tmp_path, root), "--check"), "data.train: no class, expected at least one")
    (tmp_path / "index.json").write_text("[]")
    config = write_config(tmp_path, folders(train="cat"), CLASSIFIER)
    lists(refused(config, "--check", "--set", f"data.class_index={tmp_path}/index.json"), "index.json: no class")


def spoilt(data: Path, folder: Path) -> Path:
    """A PNG by a JPEG's name, a picture of another size, and one cut short."""
    root = copied(data, folder)
    pictures = root / "JPEGImages"
    Image.new("RGB", (320, 240)).save(pictures / "image_0.jpg", format="PNG")
    Image.new("RGB", (320, 241)).save(pictures / "image_1.jpg")
    (pictures / "image_2.jpg").write_bytes((pictures / "image_2.jpg").read_bytes()[:-100])
    return root


def test_pictures_are_looked_at(data, tmp_path, capsys):
    config = write_config(tmp_path, spoilt(data, tmp_path))
    message = refused(config, "--check")
    lists(message, "2 x unusable picture: ", "image_1.jpg: 320x241 px, expected 320x240")
    assert "image_0.jpg: not a JPEG" in message and "image_2.jpg: truncated" in message
    training([str(config), "--check", "--set", "data.lenient=true"])
    said = capsys.readouterr().out
    assert "1 images to train on, 1 to evaluate" in said and "left out: 2 x unusable picture" in said


def test_of_large_sets_the_headers_alone_are_read(data, tmp_path, monkeypatch):
    monkeypatch.setattr("jpegdeep_torch.training.pictures._MOST_WHOLE", 1)
    root = spoilt(data, tmp_path)
    pictures = root / "JPEGImages"
    with Image.open(pictures / "image_3.jpg") as image:
        exif = image.getexif()
        exif[270] = "x" * 40_000  # the frame header is behind the first 16 KiB
        image.save(pictures / "image_3.jpg", exif=exif)
    config = write_config(tmp_path, root)
    message = refused(config, "-o", str(tmp_path / "run"))
    lists(message, "1 x unusable picture: ", "1 x picture of another size: ")
    assert "2 x unusable picture: " in refused(config, "--check")  # which takes its time


@pytest.mark.parametrize("coefficients", ["native", "pixels"])
def test_cmyk_is_decoded_and_said(data, tmp_path, coefficients, capsys):
    root = copied(data, tmp_path)
    Image.new("CMYK", (320, 240)).save(root / "JPEGImages" / "image_0.jpg")
    line = [str(write_config(tmp_path, root)), "--check", "--set", f"data.coefficients={coefficients}"]
    training(line)
    said = capsys.readouterr().out
    assert "4 images to train on" in said
    assert ("decoded and compressed again: 1 x picture, such as " in said) == (coefficients == "native")
    lists(refused(Path(line[0]), *line[1:], "reading.on_damage=strict"), "a CMYK JPEG (4 components), which strict")


def test_how_files_are_read_is_checked_and_decides(data, tmp_path, capsys):
    config = write_config(tmp_path, spoilt(data, tmp_path))
    changes = ["reading.on_damage=ignore", "reading.max_memory_mb=0", "data.orientation=upright"]
    lists(refused(config, "--check", "--set", changes[0], changes[2]), "reading.on_damage is one of 'error', 'strict'",
          "data.orientation: \"upright\", expected one of ", "2 x unusable", "picture of another size")  # fmt: skip
    assert "reading.max_memory_mb is above 0, not 0" in refused(config, "--check", "--set", changes[1])
    message = refused(config, "--check", "--set", "reading.on_damage=tolerate")
    lists(message, "1 x unusable picture: ", "1 x picture of another size")  # the one that is cut short is taken
    message = refused(config, "--check", "--set", "reading.max_memory_mb=0.2")
    assert "320 x 240 pixels take 0 MB to decode, more than the limit of 0.2 MB" in message


def test_a_coco_set_s_mistakes_are_all_listed(data, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}], "annotations": [{"id": 5, '
        '"image_id": 1, "category_id": 3, "bbox": [1, 1, 0, 5]}], "categories": [{"id": 3, "name": "cat"}]}'
    )
    config = write_config(tmp_path, tmp_path, TINY.replace('"voc"', '"coco"').replace('set = "test"', 'set = "train"'))
    message = refused(config, "--check", "--set", "data.classes=['dog']", "data.evaluate=[]")
    lists(message, "only in the file: cat; only in the network: dog", "1 x missing picture", "1 x degenerate box")


@pytest.fixture
def folders(data, tmp_path):
    """folders(train="cat dog") -> an ImageNet root with sets of those folders, a picture in each."""

    def make(**sets: str) -> Path:
        for name, classes in sets.items():
            for folder in classes.split():
                (tmp_path / "inet" / name / folder).mkdir(parents=True)
                shutil.copy(data / "JPEGImages" / "image_0.jpg", tmp_path / "inet" / name / folder / f"{folder}.jpg")
        return tmp_path / "inet"

    return make


def image_sets(root: Path, *names: str) -> str:
    return "[" + ", ".join(f"{{root='{root}', set='{name}'}}" for name in names) + "]"


def read_classes(root: Path, tmp_path: Path, *changes: str):
    return read_training_data(load_config(write_config(tmp_path, root, CLASSIFIER), changes).data)


def test_a_folder_s_name_is_its_class(folders, tmp_path):
    root = folders(train="cat dog", more="dog fish", val="fish")
    found = read_classes(
        root, tmp_path, "data.classes=['dog', 'fish', 'cat']", f"data.train={image_sets(root, 'train', 'more')}",
        f"data.evaluate={image_sets(root, 'val')}",
    )  # fmt: skip
    assert found.class_names == ("dog", "fish", "cat")
    assert [path.stem for path in found.train.paths] == ["cat", "dog", "dog", "fish"]
    assert found.train.labels == [2, 0, 0, 1] and found.evaluate.labels == [1]
    assert found.notes == ["data.evaluate: no image in cat, dog, expected some of each class (data.classes)"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.classes=['aaa', 'cat']"], ["train: 1 folders are not in data.classes: dog"]),
        (["data.classes=['cat', 'cow', 'dog']"], ["data.train: no image in cow"]),
        (["data.classes=voc"], ["data.classes: 'voc', expected 'all' or a list of folders"]),
        (["data.evaluate={val}"], ["val: 1 folders are not in the training sets: fish"]),
        (["data.train={train_and_val}"], ["only one of them has dog, fish"]),
        (["data.train={nope}", "data.evaluate={val}"], ["nope: no such folder"]),
        (["data.train={train_and_nope}", "data.evaluate={val}"], ["nope: no such folder", "training sets: fish"]),
        (["data.class_index=none.json"], ["none.json: no such file"]),
        (["data.class_index={index}", "data.classes=['cat', 'dog']"], ["data.class_index does so too"]),
    ],
)
def test_folders_that_do_not_fit(folders, tmp_path, changes, said):
    root = folders(train="cat dog", val="cat fish")
    (tmp_path / "index.txt").write_text("dog Hund\ncat Katze\nfish Fisch\n")
    named = {
        name: image_sets(root, *name.split("_and_")) for name in ("val", "nope", "train_and_val", "train_and_nope")
    }
    config = write_config(tmp_path, root, CLASSIFIER)
    changes = [change.format(**named, index=tmp_path / "index.txt") for change in changes]
    lists(refused(config, "--check", "--set", *changes), *said)


def test_an_index_names_more_classes_than_the_folders(folders, tmp_path):
    root = folders(train="cat dog")
    (tmp_path / "index.txt").write_text("dog Hund\ncat Katze\nfish Fisch\n")
    found = read_classes(root, tmp_path, f"data.class_index={tmp_path}/index.txt")
    assert found.class_names == ("Hund", "Katze", "Fisch") and found.train.labels == [1, 0]
    assert "no image in fish" in found.notes[0]


SHORT = ("data.evaluate=[]", "run.batch_size=2", "run.steps_per_epoch=1", "run.epochs=1", "run.threads=1")
RECIPE = (
    *SHORT, "data.classes=all", "model.width=0.03", "data.workers=0", "optimizer.learning_rate=1e-12", "run.ema=0.0",
)  # fmt: skip


def test_weights_given_to_a_recipe_stay_what_they_are_and_the_run_can_be_repeated(data, classifier, tmp_path, capsys):
    given = tmp_path / "given.safetensors"
    shutil.copy(classifier, given)
    arguments = ["--root", str(data), "--init", str(given), "-o", str(tmp_path / "run")]
    training(["bccd_vgg_dct", *arguments, "--set", *RECIPE])
    assert f"model.scale_to_data is off, since the weights come from {given}" in capsys.readouterr().out
    held, trained = load_file(given), load_file(tmp_path / "run" / "last.safetensors")
    name = "block5.block5_conv2.weight"
    torch.testing.assert_close(trained[f"trunk.base.{name}"], held[f"trunk.{name}"])
    config = tmp_path / "run" / "config.toml"
    training([str(config), "-o", str(tmp_path / "again")])
    again = load_file(tmp_path / "again" / "last.safetensors")
    assert all(torch.equal(again[key], trained[key]) for key in trained)
    given.unlink()  # the state has the weights
    training([str(config), "--resume"])
    assert "given.safetensors: no such file" in refused(config, "-o", str(tmp_path / "third"))


def test_scaling_is_not_both_asked_for_and_given_weights(data, classifier):
    line = ["--root", str(data), "--init", str(classifier), "--check", "--set", *RECIPE, "model.scale_to_data=true"]
    lists(refused("bccd_vgg_dct", *line), "model.scale_to_data: is for fresh weights")


def test_a_start_that_failed_leaves_nothing_behind(data, classifier, tmp_path, capsys):
    config = write_config(tmp_path, data, TINY.replace("scale_to_data = true", ""))
    save_weights(create_model("resnet50", 7, width=0.05), tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(classifier.read_bytes()[:-1000])
    for name, said in (
        ("none.safetensors", "no such file"),
        ("torn.safetensors", "not a readable safetensors file"),
        ("other.safetensors", "weights of resnet50, none of which fit ssd300_vgg16_dct of width 0.03"),
    ):
        lists(refused(config, "-o", str(tmp_path / "run"), "--init", str(tmp_path / name)), said)
        assert not (tmp_path / "run").exists()
    training([str(config), "-o", str(tmp_path / "run"), "--init", str(classifier), "--set", *SHORT])
    assert "tensors taken from" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_say_it_once(data, tmp_path):
    config = write_config(tmp_path, data)
    done = train(config, tmp_path / "run", "--set", "run.speed=1", "data.classes=['disc']", processes=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(errors) == 1 and "2 mistakes" in errors[0], done.stderr


def test_float16_is_refused_where_auto_means_the_cpu(data, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    config = write_config(tmp_path, data)
    lists(refused(config, "--check", "--set", "run.precision=float16"), "run.precision: 'float16' needs a GPU")
