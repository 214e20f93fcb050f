"""Everything the package raises on purpose: each message says what was got, what was expected, and which file.

A caller's mistake is a ValueError besides, and a library that is not installed an ImportError.
"""

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


class UnsupportedCoding(JpegError):
    """A sound JPEG without planes of Y, Cb and Cr: coefficients are to be had by decoding and encoding it again."""


class CheckpointError(JpegDeepError):
    """A weights file that cannot be used."""


class BackendUnavailable(JpegDeepError):
    """A device, precision or library that is not to be had here; the message names what is missing."""


class MissingExtra(BackendUnavailable, ImportError):
    """A library that is not installed, mostly one of an extra of this package.

    The message ends in the line that installs it, such as `pip install 'jpegdeep-torch[onnx]'`.
    """


class DatasetError(JpegDeepError):
    """A folder, list or annotation that cannot be used."""


class DatasetArgumentError(DatasetError, ValueError):
    """A data set or a loader that was asked for with impossible arguments."""


class ModelError(JpegDeepError, ValueError):
    """A network that does not exist, or that was asked for with impossible arguments."""


class ConfigError(JpegDeepError, ValueError):
    """A training configuration that cannot be used; the message lists everything that is wrong with it."""


class TrainingError(JpegDeepError):
    """Training that cannot go on, or a run's folder that cannot be gone on with."""


class FailedElsewhere(TrainingError):
    """Of several processes that train together, another one cannot go on, and says itself why."""


class StreamError(JpegDeepError):
    """A stream of JPEG frames that cannot be opened or read, or that broke off."""


class StorageError(JpegDeepError):
    """A file or folder in storage that cannot be read or written, also when tried again."""
