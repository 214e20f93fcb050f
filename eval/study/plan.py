"""What a study measures (networks, backends, batch sizes, NMS, stages, coefficients, workers), cut into blocks.

The runs of a block are taken in turn, so that a machine's drift falls on all alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from eval.benchmark.candidates import BenchmarkCase
from jpegdeep_torch.errors import DatasetError


@dataclass(frozen=True)
class Matrix:
    """What is to be measured.

    The base, from which all else is told apart, is the first of the backends, of the coefficients and of the numbers of
    workers, with a batch of `base_batch`.
    """

    models: tuple[str, ...]
    backends: tuple[str, ...] = ("torch",)
    batch_sizes: tuple[int, ...] = (1, 8)
    base_batch: int = 8
    coefficients: tuple[str, ...] = ("native", "reencode")
    workers: tuple[int, ...] = (1, 0, 2)

    def __post_init__(self) -> None:
        for name in ("models", "backends", "batch_sizes", "coefficients", "workers"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise DatasetError(f"{name} of a study are {list(values)}, expected one or more, each once")
        if min(self.batch_sizes) < 1 or min(self.workers) < 0:
            raise DatasetError("batch sizes of a study must be at least 1, workers at least 0")
        if self.base_batch not in self.batch_sizes:
            raise DatasetError(f"base batch {self.base_batch} is not among the batch sizes {list(self.batch_sizes)}")


@dataclass(frozen=True)
class Block:
    """Runs that are taken in turn: each network on each backend in each case; with `peers`, other people's too."""

    name: str
    backends: tuple[str, ...]
    cases: tuple[BenchmarkCase, ...]
    peers: bool = False

    @property
    def batch_size(self) -> int:
        return self.cases[0].batch_size


def blocks(matrix: Matrix) -> list[Block]:
    """The whole matrix, in the order in which a reader would miss it.

    First the base, then the other batch sizes, then one change at a time, and last what differs from the base twice.
    """
    first, others = matrix.backends[:1], matrix.backends[1:]
    sizes = sorted(matrix.batch_sizes, key=lambda n: (n != matrix.base_batch, n))
    plan = [Block(f"core-{n}", matrix.backends if n == matrix.base_batch else first, core(matrix, n), True)
            for n in sizes]  # fmt: skip
    plan += [Block(f"varied-{n}", first, varied(matrix, n)) for n in sizes[:1]]
    if others:
        plan += [Block(f"core-{n}-others", others, core(matrix, n)) for n in sizes[1:]]
    plan += [Block(f"varied-{n}", first, varied(matrix, n)) for n in sizes[1:]]
    if others:
        plan += [Block(f"varied-{n}-others", others, varied(matrix, n)) for n in sizes]
    return plan


def core(matrix: Matrix, batch_size: int) -> tuple[BenchmarkCase, ...]:
    """The network alone without and with NMS, and end to end with the base's coefficients and workers."""
    workers = matrix.workers[0]
    return (
        BenchmarkCase("model", batch_size, False),
        BenchmarkCase("model", batch_size, True),
        BenchmarkCase("e2e", batch_size, True, workers),
    )


def varied(matrix: Matrix, batch_size: int) -> tuple[BenchmarkCase, ...]:
    """All end-to-end cases, and beside them, in turn, the network alone, which they are held against."""
    every = [
        BenchmarkCase("e2e", batch_size, True, workers, coefficients)
        for coefficients in (None, *matrix.coefficients[1:])
        for workers in matrix.workers
    ]
    return BenchmarkCase("model", batch_size, False), BenchmarkCase("model", batch_size, True), *every
