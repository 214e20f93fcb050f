"""Networks with weights that are had by name or from a file."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec

import torch

from ..models import Network, model_config
from ..models import create_model as create_from_file
from ..weights import WeightsInfo
from ..weights import load_model as load_file
from ..weights import read_info as read_info_of_file
from .table import find_weights, is_name

_Arguments = ParamSpec("_Arguments")


@contextmanager
def weights_file(source: str | os.PathLike[str], model: str | None = None, task: str | None = None) -> Iterator[Path]:
    """The safetensors file that `source` is, or that the weights of this name are; it may go with the block.

    model, task: see `find_weights`.

    Raises:
        ModelError: no weights of this name are for that network.
        CheckpointError: they cannot be had.
    """
    if is_name(source):
        with find_weights(str(source), model, task).opened() as path:
            yield path
    else:
        yield Path(source)


def load_model(
    source: str | os.PathLike[str], device: torch.device | str = "cpu", *, task: str | None = None
) -> Network:
    """The network and the weights of a file, or of weights that have a name; in eval mode, channels last.

    Args:
        source: a safetensors file of `save_weights` or the converter, or the name of weights.
        device: where the network is put.
        task: 'detector' or 'classifier', where the name has weights of both.

    Returns:
        The network; its `info` holds the file's WeightsInfo.

    Raises:
        ModelError: no weights of this name, or several.
        CheckpointError: the file cannot be used.
    """
    with weights_file(source, task=task) as path:
        return load_file(path, device)


def read_info(source: str | os.PathLike[str], *, model: str | None = None, task: str | None = None) -> WeightsInfo:
    """What weights say of themselves: of a file, or of weights that have a name, without reading the weights.

    model, task: see `find_weights`.  Raises ModelError and CheckpointError as `load_model`.
    """
    with weights_file(source, model, task) as path:
        return read_info_of_file(path)


def _with_names(build: Callable[_Arguments, Network]) -> Callable[_Arguments, Network]:
    """`models.create_model`, whose `weights` may be a name as well."""

    @functools.wraps(build)
    def create(*arguments: Any, **options: Any) -> Network:
        if not is_name(options.get("weights")):
            return build(*arguments, **options)
        name = arguments[0] if arguments else options["name"]
        model_config(name)  # an unknown network is not one that lacks these weights
        with weights_file(options["weights"], model=name) as options["weights"]:
            return build(*arguments, **options)

    return create


create_model = _with_names(create_from_file)
