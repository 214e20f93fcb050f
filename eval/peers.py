"""Other people's detectors, run as their users run them, to compare speeds with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_jpeg

from eval.benchmark.candidates import BenchmarkCase, Run, timed
from eval.benchmark.networks import CALIBRATION_IMAGES
from eval.benchmark.seeded import background_shift
from eval.keras_peer import KerasTwin
from jpegdeep_torch.errors import JpegError, ModelError

PEERS = (
    "torchvision (its ssd300_vgg16), ssdlite (its ssdlite320_mobilenet_v3_large), or keras=FILE.h5: the network that a "
    "Keras checkpoint of model.save describes (needs TensorFlow)"
)
_TORCHVISIONS = {"torchvision": "ssd300_vgg16", "ssdlite": "ssdlite320_mobilenet_v3_large"}
_OUTPUTS = 21  # VOC's classes and the background


class TorchvisionPeer:
    """One of torchvision's detectors with its own transform and NMS, eager, fed by `torchvision.io.decode_jpeg`.

    Its weights are seeded, since none need be downloaded to time it; its heads are fitted to `sample` as those of our
    own seeded detectors are (`eval.benchmark.seeded`), so that NMS gets about 400 scores per image.
    """

    def __init__(
        self,
        sample: Sequence[bytes],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        network: str = "ssd300_vgg16",
    ):
        """`network`: 'ssd300_vgg16' or 'ssdlite320_mobilenet_v3_large'.

        `sample`: a few JPEGs to fit the heads to.  Raises JpegError for one that torchvision cannot decode."""
        if not sample:
            raise ModelError("the torchvision peer needs at least one JPEG to fit its heads to")
        self.name = f"torchvision {network}"
        self.device = torch.device(device)
        self.dtype = dtype
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = getattr(torchvision.models.detection, network)(
                weights=None, weights_backbone=None, num_classes=_OUTPUTS
            ).eval()
            for module in model.modules():  # SSDLite's own fresh ones, of 0.03, leave nothing of an image
                if isinstance(module, nn.Conv2d) and network != "ssd300_vgg16":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        with torch.inference_mode():
            _fit_heads(model, [image.float() / 255 for image in self._decoded(sample, torch.device("cpu"))])
        self.model = model.to(self.device, dtype)

    @torch.inference_mode()
    def __call__(self, jpegs: Sequence[bytes]) -> list[dict[str, Tensor]]:
        """JPEGs -> torchvision's detections: 'boxes' in pixels of the original, 'scores', 'labels'."""
        return self.detect(self._decoded(jpegs, self.device))

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Decoded images, (3, H, W) uint8 on `device` -> detections."""
        return self.model([image.to(self.dtype) / 255 for image in images])

    @torch.inference_mode()
    def prepared(self, jpegs: Sequence[bytes]) -> Tensor:
        """JPEGs -> (N, 3, 300, 300), as `network` takes them."""
        images = [image.to(self.dtype) / 255 for image in self._decoded(jpegs, self.device)]
        return self.model.transform(images)[0].tensors

    @torch.inference_mode()
    def network(self, images: Tensor) -> dict[str, Tensor]:
        """Transformed images, (N, 3, 300, 300) -> raw outputs: the network alone."""
        return self.model.head(list(self.model.backbone(images).values()))

    def _decoded(self, jpegs: Sequence[bytes], device: torch.device) -> list[Tensor]:
        images = []
        for i, data in enumerate(jpegs):
            try:
                image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
            except (RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise JpegError(f"JPEG {i}", f"torchvision cannot decode it ({reason})") from None
            images.append(image.to(device, non_blocking=True))
        return images


def _fit_heads(model: nn.Module, images: list[Tensor]) -> None:
    """Scales each head to outputs of unit variance, and moves the background's biases."""
    transformed, _ = model.transform(images)
    maps = list(model.backbone(transformed.tensors).values())
    classifier, regressor = model.head.classification_head, model.head.regression_head
    for head in (classifier, regressor):
        for module, features in zip(head.module_list, maps):
            _last_convolution(module).weight.div_(module(features).std().clamp(min=1e-6))
    shift = background_shift(classifier(maps))
    for module in classifier.module_list:
        _last_convolution(module).bias.view(-1, _OUTPUTS)[:, 0] += shift


def _last_convolution(head: nn.Module) -> nn.Conv2d:
    """The convolution that gives the outputs; SSDLite has others in front."""
    return [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]


class TimedPeer:
    """A peer as a `Candidate`: end to end with its own NMS, and its network alone without."""

    def __init__(self, peer: TorchvisionPeer, jpegs: Sequence[bytes]):
        self.peer, self.label = peer, peer.name
        self.jpegs = list(jpegs)

    def stage(self, case: BenchmarkCase) -> Run | None:
        """Batch after batch of the JPEGs, over and over; for the network alone the first one, transformed."""
        if case.coefficients is not None or case.nms != (case.stage == "e2e"):
            return None
        jpegs, peer = itertools.cycle(self.jpegs), self.peer
        if case.stage == "model":
            inputs = peer.prepared(list(itertools.islice(jpegs, case.batch_size)))
            return timed(case.batch_size, lambda: peer.network(inputs), self._wait)
        return timed(case.batch_size, lambda: peer(list(itertools.islice(jpegs, case.batch_size))), self._wait)

    def _wait(self) -> None:
        if self.peer.device.type == "cuda":
            torch.cuda.synchronize(self.peer.device)


def make_timed_peer(
    name: str, jpegs: Sequence[bytes], device: torch.device | str = "cpu", seed: int = 0
) -> TimedPeer | KerasTwin:
    """The peer called `name`, ready to be timed on `jpegs`; ModelError, naming the known ones, where there is none."""
    kind, _, checkpoint = name.partition("=")
    if name in _TORCHVISIONS:
        peer = TorchvisionPeer(jpegs[:CALIBRATION_IMAGES], device, seed=seed, network=_TORCHVISIONS[name])
        return TimedPeer(peer, jpegs)
    if kind == "keras" and checkpoint:
        return KerasTwin(checkpoint, jpegs)
    raise ModelError(f"unknown peer {name!r}: expected {PEERS}")
