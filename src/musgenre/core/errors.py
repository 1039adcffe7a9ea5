"""Exceptions that musgenre raises.

All derive from :class:`MusgenreError`, and each also from the built-in exception that a caller would expect, so that
``except ValueError`` and ``except OSError`` work as usual. A message states what was given, what was expected and how
to fix it.
"""


class MusgenreError(Exception):
    """Base class of all exceptions of musgenre.

    Attributes:
        path: The audio file that caused the error, or ``None`` if the audio did not come from a file.
    """

    path: str | None = None


class ParameterError(MusgenreError, ValueError):
    """An argument has an invalid value, such as a negative rate or an unknown mode."""


class AudioError(MusgenreError, ValueError):
    """Audio is invalid: too short, not finite or without channels."""


class AudioFileError(AudioError, OSError):
    """A file cannot be decoded: it is missing, a directory, empty, truncated or not in an audio format."""


class ConfigError(MusgenreError, ValueError):
    """A configuration has an unknown key, a wrong type, an invalid option or a newer format."""


class WeightsError(MusgenreError, OSError):
    """A model's directory or weights are missing or damaged, or do not fit the network."""


class DownloadError(MusgenreError, OSError):
    """A file cannot be downloaded, or has another checksum or size than expected."""


class DatasetError(MusgenreError, ValueError):
    """A dataset is empty, lacks files, has unknown labels or has an invalid split."""


class UnknownNameError(MusgenreError, LookupError):
    """A registry has no feature, backbone or dataset of that name."""


class PluginError(MusgenreError, ImportError):
    """A registered feature, backbone or dataset fails to import or breaks its contract."""


class ContractError(PluginError, AssertionError):
    """A feature or backbone breaks the contract that :mod:`musgenre.testing` checks.

    Attributes:
        report: The :class:`~musgenre.testing.reports.ContractReport`, whose text is the message.
    """

    def __init__(self, message: str, report: object) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        # The default passes only the message to __init__ when the exception is unpickled.
        return type(self), (str(self), self.report)


class TrainingError(MusgenreError, RuntimeError):
    """Training failed after at least one epoch was completed.

    Attributes:
        result: The :class:`~musgenre.training.finetune.FinetuneResult` with the best weights so far.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        # The default passes only the message to __init__ when the exception is unpickled.
        return type(self), (str(self), self.result)
