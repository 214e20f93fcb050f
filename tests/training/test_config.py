"""Configurations: what is read, what is refused, and that one error lists everything."""

from __future__ import annotations

import dataclasses

import pytest

from jpegdeep_torch.errors import ConfigError
from jpegdeep_torch.models import MODELS
from jpegdeep_torch.training.config import list_recipes, load_config, monitor_of
from jpegdeep_torch.utils.settings import build, to_toml

SMALL = """
[model]
name = "ssd300_vgg16_dct"
[data]
kind = "voc"
train = [{ root = "somewhere", set = "train" }]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "run.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_what_is_not_stated_is_the_reference_s(write):
    config = load_config(write(SMALL))
    assert (config.optimizer.kind, config.optimizer.learning_rate, config.optimizer.momentum) == ("sgd", 1e-3, 0.9)
    assert (config.optimizer.l2, config.run.batch_size, config.loss.negatives_per_positive) == (5e-4, 32, 3)
    assert config.schedule.kind == "plateau" and monitor_of(config) == "loss"


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_are_whole_and_state_no_more_than_differs(name):
    config = load_config(name)
    assert config.model.name in MODELS and config.data.train
    assert (config.data.coefficients == "pixels") == (not MODELS[config.model.name].is_dct)


def test_a_resolved_configuration_reads_back_to_the_same(write):
    config = load_config(write(SMALL), ["data.classes=['a \"b\"', 'ü']", "schedule.milestones=[3, 5]"])
    again = load_config(write(to_toml(config), "resolved.toml"))
    assert again == config
    assert config.data.classes == ('a "b"', "ü")


def test_a_base_beside_the_file_and_changes_on_top(write):
    write(SMALL + "[run]\nepochs = 7\nseed = 3\n", "mother.toml")
    config = load_config(write('base = "mother.toml"\n[run]\nseed = 4\n'), ["run.batch_size=2", "output=runs/x"])
    assert (config.run.epochs, config.run.seed, config.run.batch_size, config.output) == (7, 4, 2, "runs/x")


def test_all_mistakes_in_one_error(write):
    text = SMALL.replace('"voc"', '"vox"') + (
        "[run]\nepochs = 'ten'\nbatch_size = 0\nspeed = 1\n[optimizer]\nmomentum = 2.0\n[augmentation]\nflip = true\n"
        "[surprise]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(write(text), ["model.width=-1", "nonsense"])
    message = str(caught.value)
    for part in (
        "run.toml: 9 mistakes", "data.kind", "run.epochs: \"ten\", expected a whole number", "run.batch_size",
        "run.speed: unknown key", "optimizer.momentum: 2, expected at most 1", "augmentation.flip: unknown key",
        "surprise: unknown key", "model.width: -1, expected more than 0", "nonsense: expected KEY=VALUE",
    ):  # fmt: skip
        assert part in message, (part, message)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model.name=ssd300_vgg16"], "data.coefficients: 'native', expected 'pixels'"),
        (["model.name=vgg16_dct"], "data.kind: 'voc' does not fit"),
        (["data.train=[]"], "data.train: empty"),
        (["data.classes=voc2"], "data.classes: 'voc2'"),
        (["data.classes=['a', 'a']"], "names a class twice"),
        (["run.monitor=accuracy", "data.evaluate=[{root='x'}]"], "run.monitor"),
        (["run.monitor=mAP"], "nothing is evaluated"),
        (["run.precision=float16", "run.device=cpu"], "needs a GPU"),
        (["loss.negative_iou=0.6"], "loss.negative_iou"),
        (["augmentation.contrast=[2.0, 1.0]"], "contrast"),
    ],
)
def test_keys_that_do_not_go_together(write, changes, said):
    with pytest.raises(ConfigError, match="1 mistakes") as caught:
        load_config(write(SMALL), changes)
    assert said in str(caught.value)


def test_files_that_are_none(write, tmp_path):
    with pytest.raises(ConfigError, match="no such file, expected a TOML file or one of"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="not readable as TOML"):
        load_config(write("[model\n"))
    with pytest.raises(ConfigError, match="its own base"):
        load_config(write('base = "run.toml"\n'))


def test_values_are_taken_only_in_their_own_type():
    @dataclasses.dataclass(frozen=True)
    class Kind:
        flag: bool
        number: float
        pair: tuple[float, float]

    problems: list[str] = []
    assert build(Kind, {"flag": 1, "number": True, "pair": [1, 2, 3]}, "", problems) is None
    assert len(problems) == 3
    problems.clear()
    assert build(Kind, {"flag": True, "number": 1, "pair": [1, 2]}, "", problems) == Kind(True, 1.0, (1.0, 2.0))


def test_a_base_is_the_same_file_by_any_path(write, tmp_path):
    (tmp_path / "inner").mkdir()
    with pytest.raises(ConfigError, match="its own base"):
        load_config(write('base = "inner/../run.toml"\n'))


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e400"])
def test_numbers_without_end(write, number):
    with pytest.raises(ConfigError, match="2 mistakes") as caught:
        load_config(write(SMALL + f"[run]\nseed = {number}\n[optimizer]\nl2 = {number}\n"))
    assert "run.seed" in str(caught.value) and "optimizer.l2" in str(caught.value) and len(str(caught.value)) < 400
    with pytest.raises(ConfigError, match="not readable as TOML"):
        load_config(write(SMALL + f"[run]\nseed = 1{'0' * 5000}\n"))


def test_mistakes_in_one_key_do_not_hide_contradictions_of_others(write):
    changes = ["run.speed=1", "model.name=ssd300_vgg16", "augmentation.flip=true", "augmentation.hue_deg=-1"]
    with pytest.raises(ConfigError, match="6 mistakes") as caught:
        load_config(write(SMALL), [*changes, "augmentation.contrast=[2.0, 1.0]", "run.monitor=mAP", "data.evaluate=5"])
    message = str(caught.value)  # what nobody could read is not held against other keys
    assert "expected 'pixels'" in message and "contrast is (2, 1)" in message and "nothing is evaluated" not in message


def test_recipes_for_classifiers_of_both_families():
    shown = {}
    for name in ("imagenet_dct", "imagenet_rgb", "imagenet_resnet_dct", "imagenet_resnet_rgb"):
        config = load_config(name)
        size = (config.optimizer.learning_rate, config.optimizer.base_batch_size, config.run.batch_size)
        shown[config.model.name] = size
    resnet, vgg = (1.25e-2, 32, 32), (2.5e-3, 64, 64)
    assert shown == {"vgg16_dct": vgg, "vgg16": vgg, "resnet50_lcrfa": resnet, "resnet50": resnet}
