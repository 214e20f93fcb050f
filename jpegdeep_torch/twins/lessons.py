"""Who learns what from whom: a stem from the layers before a cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..models.stems import DCTStem
from .cutting import Cut
from .initialising import begin_linear
from .learning import Opening
from .pairs import Pairs

Prepare = Callable[[Tensor], Tensor]  # RGB (N, 3, H, W) of 0..255 -> what the teacher takes


class _Scaled(nn.Module):
    """A stem whose every channel is multiplied by a number while it learns, so that all features are of one size."""

    scale: Tensor

    def __init__(self, stem: DCTStem, channels: int):
        super().__init__()
        self.stem = stem
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))

    def forward(self, luma: Tensor, chroma: Tensor) -> Tensor:
        return self.stem(luma, chroma) * self.scale

    def folded(self) -> DCTStem:
        """The stem, with the numbers in its last convolution."""
        last = self.stem.exit
        assert isinstance(last, (nn.Conv2d, nn.ConvTranspose2d)) and last.bias is not None
        shape = (1, -1, 1, 1) if isinstance(last, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        with torch.no_grad():
            last.weight.mul_(self.scale.view(shape))
            last.bias.mul_(self.scale.flatten())
        self.scale.fill_(1)
        return self.stem.eval()


class StemLesson:
    """A stem learns the feature map at a cut, and what the teacher's own later layers make of it."""

    def __init__(self, stem: DCTStem, cut: Cut, prepare: Prepare):
        self.scaled = _Scaled(stem, cut.channels)
        self.prepare = prepare
        self.maps = 1 if cut.deeper is None else 2
        self.linear = cut.stride == 8
        early, late = cut.fused()
        self.early = early.requires_grad_(False).to(memory_format=torch.channels_last)
        self.late = late.requires_grad_(False).to(memory_format=torch.channels_last)
        self.deeper_only = self.late if cut.deeper is None else _without_end(self.late)

    def begin(self, opening: Opening) -> None:
        variance, _ = torch.var_mean(torch.cat([maps[0] for _, maps in opening]), dim=(0, 2, 3))
        scale = variance.clamp(min=max(1e-3 * float(variance.mean()), 1e-30)).sqrt().view(1, -1, 1, 1)
        self.scaled.scale.copy_(scale)
        if self.linear:
            begin_linear(self.scaled.stem, [(pairs.luma, pairs.chroma, maps[0] / scale) for pairs, maps in opening])

    @property
    def student(self) -> nn.Module:
        """The stem as it learns; `scaled.folded()` gives the stem at the end."""
        return self.scaled

    def teacher_maps(self, pixels: Tensor, final: bool) -> list[Tensor]:
        return self._after(self.early(self.prepare(pixels)), final)

    def student_maps(self, pairs: Pairs, final: bool) -> list[Tensor]:
        return self._after(self.scaled(pairs.luma, pairs.chroma), final)

    def _after(self, features: Tensor, final: bool) -> list[Tensor]:
        if not final:
            return [features] if self.maps == 1 else [features, self.deeper_only(features)]
        deeper, output = self.late(features)
        maps = [features] if self.maps == 1 else [features, deeper]
        return [*maps, output] if isinstance(output, Tensor) and output.ndim == 2 else maps


def _without_end(late: nn.Module) -> fx.GraphModule:
    """The part of `late` that its first result hangs on, on the same modules."""
    assert isinstance(late, fx.GraphModule)
    graph = fx.Graph()
    result: Any = graph.graph_copy(late.graph, {})
    graph.output(result[0])
    module = fx.GraphModule(late, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module
