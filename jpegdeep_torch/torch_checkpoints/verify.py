"""Proof of a conversion: the saved file against torchvision's own network, from a JPEG to boxes or probabilities."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional

from ..detection import anchor_boxes
from ..errors import CheckpointError
from ..keras.verify import Check, compare, seeded_jpeg
from ..models import MODELS
from .convert import count_classes, identify, read_state_dict


def verify_torchvision(predictor: Any, source: str | os.PathLike[str]) -> list[Check]:
    """What a user will run against torchvision's network with the weights of the .pth file `source`.

    A seeded JPEG goes through all steps of `predictor`, a Detector or Classifier of the converted file, with the preset
    and the anchors that it holds.  torchvision's network prepares the JPEG's pixels by its own transform, lays its own
    anchors and suppresses by its own NMS.  The JPEG has the size at which nothing is resized: torchvision's resizing
    gives pixels between whole values, ours does not.

    Raises:
        CheckpointError: the file is none of torchvision's, or lacks weights of its network.
    """
    detector = predictor.config.task == "detector"
    theirs = _network(source)
    side = predictor.config.image_size
    jpeg = seeded_jpeg(side if detector else predictor.preset.shorter_side or side)
    (batch,) = predictor.read([jpeg])
    outputs = predictor.forward(predictor.prepare(batch))
    (value,) = predictor.postprocess(outputs, batch.image_sizes)
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)))).permute(2, 0, 1)
    ours = {"largest_logit": outputs[0].abs().amax().numpy()}
    with torch.inference_mode():
        if detector:
            ours |= {
                "conf": outputs[0].softmax(dim=-1).numpy(),
                "loc": outputs[1].numpy(),
                "anchors": anchor_boxes(predictor.config).numpy(),
                "detections": _rows(value),
            }
            return compare(ours, _detected(theirs, pixels.float() / 255))
        answer = theirs(_prepared(pixels.float() / 255, side)[None])
    ours |= {"logits": outputs[0].numpy(), "probabilities": outputs[0].softmax(dim=-1).numpy()}
    return compare(ours, {"logits": answer.numpy(), "probabilities": answer.softmax(dim=-1).numpy()})


def _network(source: str | os.PathLike[str]) -> nn.Module:
    """torchvision's network with the file's weights, in eval mode."""
    from torchvision.models import get_model

    held = read_state_dict(source)
    row = identify(held, source)
    detector = MODELS[row.model].task == "detector"
    options = {"weights_backbone": None} if detector else {}
    model = get_model(row.name, weights=None, num_classes=count_classes(held, row, []) + detector, **options)
    missing = model.load_state_dict({key: value.float() for key, value in held.items()}, strict=False).missing_keys
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(f"{source}: torchvision's {row.name} has no answer without {missing[0]}")
    return model.eval()


def _prepared(pixels: Tensor, size: int) -> Tensor:
    """(3, H, W) of 0..1 as torchvision's ImageNet weights want them; the resizing before it does nothing here."""
    cropped = functional.center_crop(pixels, [size, size])
    return functional.normalize(cropped, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def _detected(model: Any, image: Tensor) -> dict[str, np.ndarray]:
    """What torchvision's SSD answers, under the names of `keras.verify.BARS`."""
    images, _ = model.transform([image])
    maps = list(model.backbone(images.tensors).values())
    head = model.head(maps)
    (corners,) = model.anchor_generator(images, maps)
    side = image.shape[-1]
    centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    (found,) = model([image])
    return {
        "conf": head["cls_logits"].softmax(dim=-1).numpy(),
        "loc": head["bbox_regression"].numpy(),
        "anchors": (torch.cat((centre, size), dim=1) / side).numpy(),
        "detections": _rows(found),
    }


def _rows(found: dict[str, Tensor]) -> np.ndarray:
    """(1, K, 6): class, score, xmin, ymin, xmax, ymax."""
    return torch.cat((found["labels"][:, None], found["scores"][:, None], found["boxes"]), dim=1)[None].numpy()
