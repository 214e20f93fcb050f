"""Any RGB network in two: the layers up to one of its feature maps, and those after it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torchvision.models.feature_extraction import NodePathTracer

from ..errors import ModelError
from ..models.stems import STEM_STRIDES
from ..utils.messages import listed


@dataclass
class Cut:
    """A network cut at one feature map.  Both parts hold the network's own modules, and are in eval mode.

    layer, deeper: names of the layer whose output is the feature map, and of a later one (None: there is none).
    early: image (N, 3, H, W) -> feature map (N, channels, H / stride, W / stride).
    late: feature map -> (output of `deeper`, or of `layer` where there is none; the network's own output).
    rectified: whether no value of the feature map is negative.
    """

    layer: str
    deeper: str | None
    early: fx.GraphModule
    late: fx.GraphModule
    channels: int
    stride: int
    rectified: bool

    def fused(self) -> tuple[nn.Module, nn.Module]:
        """(early, late) with batch normalisation in the convolutions before it: faster, the same but for rounding."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fuse(self.early), fuse(self.late)


def cut_network(network: nn.Module, layer: str, *, deeper: str | None = None, size: int = 224) -> Cut:
    """Cuts `network`, which is left as it is but for being put in eval mode.

    Args:
        network: image (N, 3, H, W) -> anything; one that torch.fx can trace.
        layer: the name of a module, as `named_modules` has it, or of a node of
            `torchvision.models.feature_extraction.get_graph_node_names`.  All that comes after has to come by it.
        deeper: another, after it; by default the last one of stride 16, or of 32 where `layer` has 16.
        size: of the image that it is tried with, in pixels.

    Raises:
        ModelError: the network cannot be traced or cut there, or the feature map has another stride than 4, 8 or 16.
    """
    network.eval()
    graph, names = _traced(network)
    place = _last_of(layer, names)
    if place is None:
        raise ModelError(f"no layer {layer!r} to cut at: expected one of {listed(sorted(_modules(names)), ', ')}")
    shapes = _shapes(network, graph, size)
    stride = _stride(shapes.get(place), size)
    if stride not in STEM_STRIDES:
        raise ModelError(
            f"layer {layer!r} gives {shapes.get(place, 'no tensor')} for an image of {size} px, "
            f"expected a feature map of stride {', '.join(map(str, STEM_STRIDES))}"
        )
    if deeper is None:
        deeper = _default_deeper(layer, names, shapes, size, 16 if stride < 16 else 32)
    below = place if deeper is None else _last_of(deeper, names)
    if below is None or place not in _ancestors(below):
        raise ModelError(f"no layer {deeper!r} after {layer!r}")
    output = next(node for node in graph.nodes if node.op == "output")
    early = _part(network, graph, None, place)
    late = _part(network, graph, place, (below, output.args[0]))
    with torch.no_grad():
        features = early(torch.rand(2, 3, size, size) * 2 - 1)
    return Cut(layer, deeper, early, late, features.shape[1], stride, bool(features.min() >= 0))


def _traced(network: nn.Module) -> tuple[fx.Graph, dict[fx.Node, str]]:
    """(the graph, the name of each node)."""
    tracer = NodePathTracer()
    # Arguments that may be left out are left out: in our own networks, the chroma.
    parameters = list(inspect.signature(network.forward).parameters.values())[1:]
    left_out = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        graph = tracer.trace(network, concrete_args=left_out or None)
    except Exception as error:  # whatever the network's own code makes of a stand-in for a tensor
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{type(network).__name__} cannot be traced by torch.fx: {reason}") from None
    return graph, dict(tracer.node_to_qualname)


def _modules(names: dict[fx.Node, str]) -> set[str]:
    """Names of all modules that have nodes, two levels deep at most."""
    return {".".join(name.split(".")[:depth]) for name in names.values() for depth in (1, 2)}


def _last_of(layer: str, names: dict[fx.Node, str]) -> fx.Node | None:
    """The last node of the module `layer`, or of that name."""
    found = [node for node, name in names.items() if name == layer or name.startswith(f"{layer}.")]
    return found[-1] if found and found[-1].op != "placeholder" else None


def _shapes(network: nn.Module, graph: fx.Graph, size: int) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of each node that gives a tensor, for one image of `size` px.  ModelError."""

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node):
            result = super().run_node(n)
            if isinstance(result, Tensor):
                found[n] = tuple(result.shape)
            return result

    found: dict[fx.Node, tuple[int, ...]] = {}
    try:
        with torch.no_grad():
            Recorder(fx.GraphModule(network, graph)).run(torch.zeros(1, 3, size, size))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{type(network).__name__} does not take an image (1, 3, {size}, {size}): {reason}") from None
    return found


def _stride(shape: tuple[int, ...] | None, size: int) -> int | None:
    """Of a square feature map of an image of `size` px; None where it is none."""
    if shape is None or len(shape) != 4 or shape[2] != shape[3]:
        return None
    return next((s for s in (1, 2, 4, 8, 16, 32, 64) if -(-size // s) == shape[2]), None)


def _default_deeper(
    layer: str, names: dict[fx.Node, str], shapes: dict[fx.Node, tuple[int, ...]], size: int, stride: int
) -> str | None:
    """The last layer of that stride among those whose names have as many parts as `layer`'s, or fewer."""
    for depth in range(layer.count(".") + 1, 0, -1):
        order = list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in names.values()))
        after = order[order.index(".".join(layer.split(".")[:depth])) + 1 :]
        fitting = [
            name for name in after if (node := _last_of(name, names)) and _stride(shapes.get(node), size) == stride
        ]
        if fitting:
            return fitting[-1]
    return None


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """All nodes that it is made from, itself among them."""
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += one.all_input_nodes
    return found


def _part(network: nn.Module, graph: fx.Graph, start: fx.Node | None, end: Any) -> fx.GraphModule:
    """What leads from the output of `start` (None: from the image) to `end`, a node or a structure of nodes."""
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    if start is not None:
        copies[start] = part.placeholder("features")
    needed = _needed(end, start)
    for node in graph.nodes:
        if node in needed and node not in copies:
            if node.op == "placeholder" and start is not None:
                raise ModelError(f"layers after {start.name} read layers before it too: no cut can be made there")
            copies[node] = part.node_copy(node, lambda n: copies[n])
    part.output(fx.map_arg(end, lambda n: copies[n]))
    part.lint()
    return fx.GraphModule(network, part)


def _needed(end: Any, start: fx.Node | None) -> set[fx.Node]:
    """The nodes that `end` is made from, no further back than `start`."""
    waiting: list[fx.Node] = []
    fx.map_arg(end, waiting.append)
    found: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += () if node is start else node.all_input_nodes
    return found


def frozen(modules: Iterator[nn.Module] | tuple[nn.Module, ...]) -> None:
    """Their parameters get no gradients; gradients go through them all the same."""
    for module in modules:
        module.requires_grad_(False)
