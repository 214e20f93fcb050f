"""Everything the package raises on purpose: each message says what was got, what was expected, and which file."""

from __future__ import annotations


class JpegDeepError(Exception):
    """Base of all errors of this package.  A command prints it on one line and exits with status 2."""


class JpegError(JpegDeepError):
    """A JPEG that cannot be used: `name` is the file (or '<bytes>'), `reason` what is wrong with it."""

    def __init__(self, name: object, reason: str):
        super().__init__(name, reason)  # both arguments, so that the error survives pickling between processes
        self.name = str(name)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class CheckpointError(JpegDeepError):
    """A weights file that cannot be used."""


class BackendUnavailable(JpegDeepError):
    """A backend that cannot run here: the message names what is missing and how to get it."""


class DatasetError(JpegDeepError):
    """A folder, list or annotation that cannot be used."""


class ModelError(JpegDeepError):
    """A network that does not exist, or that was asked for with impossible arguments."""


class ConfigError(JpegDeepError):
    """A training configuration that cannot be used; the message lists everything that is wrong with it."""


class TrainingError(JpegDeepError):
    """Training that cannot go on, or a run's folder that cannot be gone on with."""


class FailedElsewhere(TrainingError):
    """Of several processes that train together, another one cannot go on, and says itself why."""
