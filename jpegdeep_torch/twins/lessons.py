"""Who learns what from whom: a stem from the layers before a cut."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..models.stems import DCTStem
from .cutting import Cut
from .initialising import begin_linear
from .learning import Opening
from .pairs import Pairs

Prepare = Callable[[Tensor], Tensor]  # RGB (N, 3, H, W) of 0..255 -> what the teacher takes


class StemLesson:
    """A stem learns the feature map at a cut, and what the teacher's own later layers make of it."""

    def __init__(self, stem: DCTStem, cut: Cut, prepare: Prepare):
        self.student = stem
        self.prepare = prepare
        self.maps = 1 if cut.deeper is None else 2
        self.linear = cut.stride == 8
        self.early, self.late = (
            part.requires_grad_(False).to(memory_format=torch.channels_last) for part in cut.fused()
        )
        self.deeper_only = self.late if cut.deeper is None else _without_end(self.late)

    def begin(self, opening: Opening) -> None:
        if self.linear:
            begin_linear(self.student, [(pairs.luma, pairs.chroma, maps[0]) for pairs, maps in opening])

    def teacher_maps(self, pixels: Tensor, final: bool) -> list[Tensor]:
        return self._after(self.early(self.prepare(pixels)), final)

    def student_maps(self, pairs: Pairs, final: bool) -> list[Tensor]:
        return self._after(self.student(pairs.luma, pairs.chroma), final)

    def _after(self, features: Tensor, final: bool) -> list[Tensor]:
        if not final:
            return [features] if self.maps == 1 else [features, self.deeper_only(features)]
        deeper, output = self.late(features)
        maps = [features] if self.maps == 1 else [features, deeper]
        return [*maps, output] if isinstance(output, Tensor) and output.ndim == 2 else maps


def _without_end(late: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The part of `late` that its first result hangs on, on the same modules."""
    graph = torch.fx.Graph()
    result = graph.graph_copy(late.graph, {})
    graph.output(result[0])
    module = torch.fx.GraphModule(late, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module
