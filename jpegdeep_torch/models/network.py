"""What all networks have in common."""

from __future__ import annotations

from torch import nn

from .config import ModelConfig
from .weights_file import WeightsInfo


class Network(nn.Module):
    """A network of `create_model`: a module that knows the row it was built from.

    `info` is what the weights file says of itself; only a network that was read from a file has it.
    """

    info: WeightsInfo

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
