"""What a check of the contract found, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from musgenre.core.errors import ContractError, ParameterError
from musgenre.core.registry import did_you_mean

C = TypeVar("C")
Check = Callable[[C], Iterator[str]]
"""A part of the contract: yields what is broken, in words. The first line of its docstring is what it asks for."""


@dataclass(frozen=True)
class ContractReport:
    """What was checked of a feature or backbone, and what it breaks.

    Attributes:
        kind: ``"feature"`` or ``"backbone"``.
        name: Its name in the registry.
        broken: Name of a check to what is wrong, in words; checks that it passes are left out.
        passed: The names of the checks that it passes.
        skipped: The names of the checks that were not run.
        sheet: Figures that nothing is asked of, such as the number of parameters and the milliseconds for a window.

    Example:
        >>> print(ContractReport("backbone", "slow", passed=("shapes",), sheet={"ms for a window": 812.0}))
        The backbone 'slow' keeps the contract: 1 check.
          ms for a window  812
    """

    kind: str
    name: str
    broken: dict[str, tuple[str, ...]] = field(default_factory=dict)
    passed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    sheet: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        what, checks = f"The {self.kind} {self.name!r}", len(self.passed) + len(self.broken)
        verdict = (
            f"{what} breaks {len(self.broken)} of {checks} checks:"
            if self.broken
            else f"{what} keeps the contract: {checks} check{'s' * (checks != 1)}."
        )
        lines = [verdict, *(f"  {check}: {words}" for check, told in self.broken.items() for words in told)]
        if self.skipped:
            lines.append(f"  not checked: {', '.join(self.skipped)}")
        width = max(map(len, self.sheet), default=0)
        lines += [
            f"  {figure:<{width}}  {f'{value:,}' if isinstance(value, int) else f'{value:.3g}'}"
            for figure, value in self.sheet.items()
        ]
        return "\n".join(lines)


def run(
    checks: Sequence[Check[C]],
    case: C,
    *,
    report: ContractReport,
    skip: Collection[str],
    sheet: Callable[[C], dict[str, float]],
) -> ContractReport:
    """Runs the checks that are not skipped, whatever the ones before them found.

    Args:
        checks: The parts of the contract.
        case: What they look at.
        report: The report so far: what is checked.
        skip: Names of checks that are left out.
        sheet: Takes the figures, once nothing is broken.

    Raises:
        ContractError: Something is broken; its message is the report.
        ParameterError: ``skip`` names a check that there is not.
    """
    _known(skip, [check.__name__ for check in checks])
    broken: dict[str, tuple[str, ...]] = {}
    passed: list[str] = []
    for check in checks:
        if check.__name__ not in skip:
            told = _told(check, case)
            if told:
                broken[check.__name__] = told
            else:
                passed.append(check.__name__)
    whole = replace(report, broken=broken, passed=tuple(passed), skipped=tuple(skip))
    if broken:
        raise ContractError(str(whole), whole)
    return replace(whole, sheet=sheet(case))


def raised(error: Exception) -> str:
    """Returns an error as words to put into a sentence, on one line.

    Example:
        >>> raised(KeyError("bins"))
        "raises KeyError: 'bins'"
    """
    first = next(iter(str(error).strip().splitlines()), "")
    return f"raises {type(error).__name__}: {first}" if first else f"raises {type(error).__name__}"


def _known(skip: Iterable[str], names: Sequence[str]) -> None:
    for name in skip:
        if name not in names:
            close = did_you_mean(name, names)
            raise ParameterError(f"There is no check {name!r} to skip.{close} All: {', '.join(names)}.")


def _told(check: Check[C], case: C) -> tuple[str, ...]:
    told: list[str] = []
    try:
        told.extend(check(case))
    except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises is what is told
        told.append(f"{_asked(check)} It {raised(error)}.")
    return tuple(told)


def _asked(check: Check[C]) -> str:
    return (check.__doc__ or check.__name__).splitlines()[0]
