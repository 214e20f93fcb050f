"""The four steps of a predictor: alone, as `predict` and `stream` run them, and as an observer sees them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from jpegdeep_torch import Classifier, Detector, NMSConfig, create_model, load_model, read_info, save_weights
from jpegdeep_torch.errors import CheckpointError, JpegError, ModelError
from jpegdeep_torch.inference.predictor import STEPS
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER

END = [("begin", "read", None), ("end", "read", None)]


class Recorder:
    """An observer that writes down what it is told, a batch as its number of images."""

    def __init__(self):
        self.told = []

    def begin(self, step):
        self.told.append(("begin", step, None))

    def end(self, step, batch):
        self.told.append(("end", step, None if batch is None else len(batch)))


def told(*steps: tuple[str, int]) -> list[tuple[str, str, int | None]]:
    """What a Recorder has of these (step, batch size)."""
    pairs = [
        (("begin", step, None), ("end", step, size if step in ("read", "prepare") else None)) for step, size in steps
    ]
    return [entry for pair in pairs for entry in pair]


@pytest.fixture(scope="module")
def files(dataset):
    return sorted((dataset / "JPEGImages").iterdir())[:7]


@pytest.fixture(scope="module")
def classifier_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier") / "vgg16_dct.safetensors"
    save_weights(create_model("vgg16_dct", 7, width=0.05, seed=1), path)
    return path


def by_steps(predictor, sources):
    """(inputs, outputs, values) of each batch, one step after the other."""
    for batch in predictor.read(sources):
        inputs = predictor.prepare(batch)
        outputs = predictor.forward(inputs)
        yield inputs, outputs, predictor.postprocess(outputs, batch.image_sizes)


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


SHAPES = {  # what `prepare` gives for an image of each network
    "ssd300_vgg16": [(3, 300, 300)],
    "ssd300_vgg16_dct": [(64, 38, 38), (128, 19, 19)],
    "ssd300_vgg16_dct_deconv": [(64, 38, 38), (64, 19, 19), (64, 19, 19)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_steps_one_by_one_are_predict_and_stream(weights, files, name):
    detector = Detector.load(weights(name), batch_size=3, workers=0)
    found = []
    for (inputs, outputs, values), count in zip(by_steps(detector, files), (3, 3, 1), strict=True):
        assert [tuple(t.shape) for t in inputs] == [(count, *shape) for shape in SHAPES[name]]
        assert all(t.dtype == torch.float32 and t.device == detector.device for t in inputs)
        assert [tuple(t.shape) for t in outputs] == [(count, 8732, 4), (count, 8732, 4)]  # three classes and background
        assert len(values) == count
        found += values
    assert sum(len(value["scores"]) for value in found) > 20
    predicted = detector.predict(files)
    streamed = [prediction.value for prediction in detector.stream(files)]
    for one, two, three in zip(found, predicted, streamed, strict=True):
        assert equal(one, two) and equal(one, three)


def test_a_classifier_has_the_same_steps(classifier_file, files):
    classifier = Classifier.load(classifier_file, batch_size=4, workers=0)
    found = []
    for _, (logits,), values in by_steps(classifier, files):
        assert logits.shape[1] == 7
        for row, value in zip(logits.double(), values, strict=True):
            shares = np.exp(row.numpy()) / np.exp(row.numpy()).sum()
            assert value["classes"].tolist() == np.argsort(-shares)[:5].tolist()
            assert value["classes"].dtype == torch.int64
            assert value["probabilities"].numpy() == pytest.approx(np.sort(shares)[::-1][:5], abs=1e-6)
        found += values
    assert all(equal(a, b) for a, b in zip(found, classifier.predict(files), strict=True))


def test_an_observer_is_told_of_each_step_of_each_batch_in_order(weights, files, tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    broken = [tmp_path / "empty.jpg"] * 2
    observer = Recorder()
    detector = Detector.load(weights(), batch_size=2, workers=0, observer=observer)
    sources = [*files[:2], *broken, files[2]]
    for _ in by_steps(detector, sources):
        pass
    assert observer.told == told(*((step, size) for size in (2, 0, 1) for step in STEPS)) + END
    observer.told.clear()
    assert len(detector.predict(sources, on_error="skip")) == 3
    order = (  # a batch's predictions are fetched after the next one's network has started
        *(("read", 2), ("prepare", 2), ("forward", 2)),
        *(("read", 0), ("prepare", 0), ("forward", 0), ("postprocess", 2)),
        *(("read", 1), ("prepare", 1), ("forward", 1), ("postprocess", 0)),
    )
    assert observer.told == told(*order) + END + told(("postprocess", 1))
    observer.told.clear()
    assert detector.predict([]) == [] and observer.told == END


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_vgg16_dct"])
@pytest.mark.parametrize("decoder", [DEFAULT_DECODER, "torchvision-device"])
def test_a_batch_of_nothing_goes_through_every_step(weights, name, decoder):
    detector = Detector.load(weights(name), workers=0, decoder=decoder)
    ((inputs, outputs, values),) = by_steps(detector, [b"", b"no JPEG"])
    assert inputs == outputs == () and values == []
    assert detector.predict([b""], on_error="report") == [None] and detector.predict([b""], on_error="skip") == []


@pytest.mark.parametrize("step", STEPS)
def test_an_observer_is_told_of_the_end_of_a_step_that_raises(weights, files, monkeypatch, step):
    observer = Recorder()
    detector = Detector.load(weights(), batch_size=2, workers=0, observer=observer)

    def fail(*arguments):
        raise RuntimeError("the power is gone")

    where = {
        "read": "jpegdeep_torch.inference.predictor.read_batch",
        "forward": "jpegdeep_torch.backends.base.Runner.__call__",
        "prepare": "jpegdeep_torch.inference.predictor.prepare_inputs",
        "postprocess": "jpegdeep_torch.inference.detector.detect",
    }
    monkeypatch.setattr(where[step], fail)
    with pytest.raises(RuntimeError, match="the power is gone"):
        list(by_steps(detector, files))
    done = told(*((name, 2) for name in STEPS[: STEPS.index(step) + 1]))
    if step == "read":
        done[-1] = ("end", "read", None)  # nothing was read
    assert observer.told == done


def test_the_first_bad_file_ends_a_stream_that_raises(weights, files):
    observer = Recorder()
    detector = Detector.load(weights(), batch_size=2, workers=0, observer=observer)
    with pytest.raises(JpegError, match="<bytes 3>"):
        detector.predict([*files[:3], b""])
    assert observer.told == told(("read", 2), ("prepare", 2), ("forward", 2), ("read", 1))


def test_the_threshold_is_what_detections_score_more_than(weights, files):
    many = Detector.load(weights(), workers=0).predict(files)
    scores = torch.cat([found["scores"] for found in many]).sort().values
    threshold = float(scores[len(scores) // 2])  # one of them: not more than itself
    few = Detector.load(weights(), workers=0, threshold=threshold).predict(files)
    assert 0 < sum(len(found["scores"]) for found in few) < len(scores)
    for a, b in zip(many, few, strict=True):
        assert equal({key: value[a["scores"] > threshold] for key, value in a.items()}, b)
    both = Detector.load(weights(), workers=0, threshold=threshold, nms=NMSConfig(score_threshold=0.9, max_total=3))
    assert both.nms == dataclasses.replace(NMSConfig(max_total=3), score_threshold=threshold)


def test_a_model_in_training_mode_is_put_in_eval_mode(weights, classifier_file, files):
    """With dropout in training mode, two runs would differ, and from the file's."""
    expected = Classifier.load(classifier_file, workers=0).predict(files)
    model = load_model(classifier_file).train()
    assert any(isinstance(layer, torch.nn.Dropout) for layer in model.modules())
    classifier = Classifier(model, model.info.preparation(), workers=0)
    assert not model.training and not any(layer.training for layer in model.modules())
    assert all(equal(a, b) for a, b in zip(classifier.predict(files), expected, strict=True))


def test_class_names_are_given_known_or_numbers(weights):
    model = create_model("ssd300_vgg16_dct", 20, width=0.05)
    assert Detector(model).class_names[11] == "dog"
    assert Detector(create_model("ssd300_vgg16_dct", 2, width=0.05)).class_names == ["1", "2"]
    assert Detector.load(weights()).class_names == list(read_info(weights()).class_names)
    assert Detector.load(weights(), class_names=["a", "b", "c"]).class_names == ["a", "b", "c"]
    with pytest.raises(ModelError, match="class_names has 1 names, expected the network's 3"):
        Detector.load(weights(), class_names=["a"])


def test_a_callers_mistakes_name_the_argument(weights, classifier_file, files):
    for arguments, message in (
        ({"batch_size": 0}, "batch size is 0, expected at least 1"),
        ({"workers": -1}, "workers is -1, expected 0 or more"),
        ({"coefficients": "both"}, "unknown coefficients 'both'"),
        ({"backend": "abacus"}, "abacus"),
        ({"decoder": "none"}, "unknown decoder 'none'"),
        ({"precision": "int1"}, "int1"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            Detector.load(weights(), **arguments)
        assert "--" not in str(caught.value)
    with pytest.raises(ModelError, match="on_error is 'ignore'"):
        Detector.load(weights(), workers=0).stream(files, on_error="ignore")  # at once, not with the first prediction
    with pytest.raises(ModelError, match="a classifier, expected a detector"):
        Detector.load(classifier_file)
    with pytest.raises(CheckpointError):
        Detector.load(files[0])
