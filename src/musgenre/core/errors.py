"""Every error that musgenre raises on purpose.

All of them derive from :class:`MusgenreError`, and each also from the built-in error that a caller
would expect, so that ``except ValueError`` and ``except OSError`` keep their meaning. A message
says what was got, what was expected and what to do.
"""


class MusgenreError(Exception):
    """The root of all errors that musgenre raises on purpose.

    Attributes:
        path: The song that a classifier could not use, where it came from a file.
    """

    path: str | None = None


class ParameterError(MusgenreError, ValueError):
    """An argument has a value that cannot be used (a negative rate, an unknown mode)."""


class AudioError(MusgenreError, ValueError):
    """Audio that was read, or given as samples, cannot be used (too short, not finite, no channel)."""


class AudioFileError(AudioError, OSError):
    """A file cannot be read as audio (missing, a directory, empty, no audio format, cut short)."""


class ConfigError(MusgenreError, ValueError):
    """A configuration has an unknown key, a wrong type, a wrong option or a newer format."""


class WeightsError(MusgenreError, OSError):
    """A model's directory or weights are missing, damaged or do not fit the network."""


class DownloadError(MusgenreError, OSError):
    """A file cannot be had from where it is published, or is another one than it should be."""


class DatasetError(MusgenreError, ValueError):
    """A dataset is empty, lacks files, has unknown labels or a split that cannot be used."""


class UnknownNameError(MusgenreError, LookupError):
    """A registry holds no feature, backbone or dataset of that name."""


class PluginError(MusgenreError, ImportError):
    """A registered feature, backbone or dataset fails to import or breaks its contract."""


class ContractError(PluginError, AssertionError):
    """A feature or backbone breaks the contract that :mod:`musgenre.testing` holds it to.

    Attributes:
        report: The :class:`~musgenre.testing.reports.ContractReport`, whose text is the message.
    """

    def __init__(self, message: str, report: object) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        # The default would hand the message alone to __init__ when an error comes back from another process.
        return type(self), (str(self), self.report)


class TrainingError(MusgenreError, RuntimeError):
    """Training broke off after it had learnt something.

    Attributes:
        result: The :class:`~musgenre.training.finetune.FinetuneResult` with the best so far.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        # The default would hand the message alone to __init__ when an error comes back from another process.
        return type(self), (str(self), self.result)
