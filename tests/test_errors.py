"""The errors of the package: what a caller can catch them as, and that they survive the way between processes."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle

import pytest

from jpegdeep_torch import errors
from jpegdeep_torch.data import make_loader
from jpegdeep_torch.errors import (
    BackendUnavailable,
    ConfigError,
    DatasetArgumentError,
    JpegDeepError,
    JpegError,
    MissingExtra,
    ModelError,
)
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset

LINE = "backend x needs a library: pip install 'jpegdeep-torch[onnx]'"
ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def made(kind: type[JpegDeepError]) -> JpegDeepError:
    return kind("photo.jpg", "is cut short") if issubclass(kind, JpegError) else kind(LINE)


def _raise(kind: type[JpegDeepError]) -> None:
    raise made(kind)


@pytest.mark.parametrize("kind", [ModelError, ConfigError, DatasetArgumentError])
def test_a_callers_mistake_is_a_value_error(kind):
    with pytest.raises(ValueError, match="backend x"):
        _raise(kind)


def test_a_missing_library_is_an_import_error_and_a_backend_that_is_unavailable():
    for base in (ImportError, BackendUnavailable, JpegDeepError):
        with pytest.raises(base, match="pip install"):
            _raise(MissingExtra)
    assert not issubclass(BackendUnavailable, ImportError), "a device that is not there is no library"


@pytest.mark.parametrize("kind", ALL)
def test_errors_survive_pickling(kind):
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and again.args == error.args
    assert isinstance(again, JpegDeepError)


def test_errors_cross_processes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for kind in (JpegError, ModelError, MissingExtra):
            with pytest.raises(kind) as error:
                pool.apply(_raise, (kind,))
            assert str(error.value) == str(made(kind))


def test_impossible_arguments_of_loaders_are_value_errors():
    config, preset = model_config("ssd300_vgg16_dct"), get_preset("voc")
    for wrong in ({"sources": []}, {"batch_size": 0}, {"workers": -1}, {"on_error": "ignore"}, {"decoder": "none"}):
        arguments = {"sources": [b""], "config": config, "preset": preset} | wrong
        with pytest.raises(ValueError, match="expected"):
            make_loader(**arguments)
