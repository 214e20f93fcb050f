"""A stem that begins as the best linear map from coefficients to features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..jpeg.axes import DCT
from ..models.stems import DCTStem, InvertedResidual

_RIDGE = 1e-3  # added to the variance of each input, as a share of it


def begin_linear(stem: DCTStem, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Sets a stem of stride 8 to the linear map of 3 x 3 blocks that is nearest in the least squares to the features.

    Its blocks then add nothing yet.  The enlarging of the chroma begins as what it stands for: each quarter of a chroma
    block by its own DCT of 4 x 4.  The channels that the map needs none of stay as they were drawn.

    Args:
        stem: in training mode; changed in place.
        batches: luma (N, 64, H, W), chroma (N, 128, H/2, W/2), features (N, C, H, W).
    """
    batches = list(batches)
    _measure(stem, batches)
    _split_chroma(stem)
    gram = cross = sums = wanted = torch.zeros(())
    count = 0
    with torch.no_grad():
        for luma, chroma, features in batches:
            columns = F.unfold(_entered(stem, luma, chroma), 3, padding=1).transpose(1, 2).flatten(0, 1).double()
            targets = features.flatten(2).transpose(1, 2).flatten(0, 1).double()
            gram, cross = gram + columns.T @ columns, cross + columns.T @ targets
            sums, wanted, count = sums + columns.sum(0), wanted + targets.sum(0), count + len(columns)
        mean, goal = sums / count, wanted / count
        gram, cross = gram / count - torch.outer(mean, mean), cross / count - torch.outer(mean, goal)
        gram += _RIDGE * torch.diag(gram.diagonal() + 1e-9)
        weights = torch.linalg.solve(gram, cross)  # (inputs, C)
        _set(stem, weights, gram, mean, goal)


def _measure(stem: DCTStem, batches: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Gives the inputs' normalisations the statistics of these batches."""
    norms = [stem.luma_norm] + ([] if stem.chroma_norm is None else [stem.chroma_norm])
    for norm, place in zip(norms, (0, 1)):
        values = torch.cat([batch[place].transpose(0, 1).flatten(1) for batch in batches], dim=1)
        norm.load_state_dict({"running_mean": values.mean(dim=1), "running_var": values.var(dim=1)}, strict=False)


def _split_chroma(stem: DCTStem) -> None:
    """The enlarging: sixteen channels of Cb and of Cr for each quarter of a block, or as many as there are."""
    if stem.enlarge is None or stem.chroma_norm is None or stem.enlarge.bias is None:
        return
    assert stem.chroma_norm.running_var is not None
    whole, quarter = torch.from_numpy(DCT), _dct_4()
    deviation = (stem.chroma_norm.running_var + stem.chroma_norm.eps).sqrt().double()
    weight = stem.enlarge.weight.data  # (128, channels, 2, 2)
    each = min(16, weight.shape[1] // 2)
    order = sorted(range(16), key=lambda f: (f // 4 + f % 4, f))[:each]
    for row in range(2):
        for column in range(2):
            # Samples are whole.T @ coefficients @ whole; a quarter's coefficients quarter @ samples @ quarter.T.
            down, across = (quarter @ whole.T[4 * at : 4 * at + 4] for at in (row, column))  # (4, 8)
            both = torch.einsum("ui,vj->uvij", down, across).reshape(16, 64)[order]  # (each, 64)
            for component in (0, 1):
                own = slice(64 * component, 64 * component + 64)
                scaled = both * deviation[own]
                scaled /= scaled.square().sum(dim=1, keepdim=True).sqrt()
                weight[own, :, row, column] = 0
                weight[own, component * each : component * each + each, row, column] = scaled.T.float()
    nn.init.zeros_(stem.enlarge.bias)


def _dct_4() -> Tensor:
    frequency, sample = torch.arange(4).double()[:, None], torch.arange(4).double()[None, :]
    rows = torch.cos((2 * sample + 1) * frequency * torch.pi / 8) / 2**0.5
    rows[0] /= 2**0.5
    return rows


def _entered(stem: DCTStem, luma: Tensor, chroma: Tensor) -> Tensor:
    """What the entry's convolution takes, by the statistics that were measured."""

    def normal(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, eps=norm.eps)

    x = normal(stem.luma_norm, luma)
    if stem.enlarge is None or stem.chroma_norm is None:
        return x
    return torch.cat((x, stem.enlarge(normal(stem.chroma_norm, chroma))[:, :, : x.shape[2], : x.shape[3]]), dim=1)


def _set(stem: DCTStem, weights: Tensor, gram: Tensor, mean: Tensor, goal: Tensor) -> None:
    """Entry and exit, of as many directions of the features as the stem has channels, those of most variance first."""
    channels = stem.entry.out_channels
    covariance = weights.T @ gram @ weights
    values, directions = torch.linalg.eigh(covariance)
    kept = directions[:, values.argsort(descending=True)[:channels]]  # (C, k)
    mapped = weights @ kept  # (inputs, k)
    deviation = (mapped * (gram @ mapped)).sum(0).clamp(min=1e-12).sqrt()
    k = kept.shape[1]
    stem.entry.weight.data[:k] = (mapped / deviation).T.reshape(k, -1, 3, 3).float()
    last = stem.exit
    assert isinstance(last, nn.Conv2d) and last.bias is not None and stem.entry_bn.running_mean is not None
    last.weight.data.zero_()
    last.weight.data[:, :k, 0, 0] = (kept * deviation).float()
    last.bias.data.copy_(goal.float())
    stem.entry_bn.running_mean[:k] = (mean @ mapped / deviation).float()
    for block in stem.blocks:
        assert isinstance(block, InvertedResidual)
        nn.init.zeros_(block.last_norm.weight)
