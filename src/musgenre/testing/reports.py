"""Running contract checks, and the report of their results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from musgenre.core.errors import ContractError, ParameterError
from musgenre.core.registry import did_you_mean

C = TypeVar("C")
Check = Callable[[C], Iterator[str]]
"""One part of the contract: yields a message for each violation. The first line of its docstring is the requirement."""


@dataclass(frozen=True)
class ContractReport:
    """Results of the contract checks of a feature or backbone.

    Attributes:
        kind: ``"feature"`` or ``"backbone"``.
        name: Name in the registry.
        failed: Messages of each failed check, by the name of the check.
        passed: Names of the passed checks.
        skipped: Names of the skipped checks.
        measurements: Size and speed, which are not checked, such as the number of parameters and the milliseconds per
            window.

    Example:
        >>> print(ContractReport("backbone", "slow", passed=("shapes",), measurements={"ms per window": 812.0}))
        The backbone 'slow' passes 1 check.
          ms per window  812
    """

    kind: str
    name: str
    failed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    passed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    measurements: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        subject, checks = f"The {self.kind} {self.name!r}", len(self.passed) + len(self.failed)
        summary = (
            f"{subject} fails {len(self.failed)} of {checks} checks:"
            if self.failed
            else f"{subject} passes {checks} check{'s' * (checks != 1)}."
        )
        lines = [summary, *(f"  {check}: {message}" for check, messages in self.failed.items() for message in messages)]
        if self.skipped:
            lines.append(f"  skipped: {', '.join(self.skipped)}")
        width = max(map(len, self.measurements), default=0)
        lines += [
            f"  {name:<{width}}  {f'{value:,}' if isinstance(value, int) else f'{value:.3g}'}"
            for name, value in self.measurements.items()
        ]
        return "\n".join(lines)


def run_checks(
    checks: Sequence[Check[C]],
    case: C,
    *,
    report: ContractReport,
    skip: Collection[str],
    measure: Callable[[C], dict[str, float]],
) -> ContractReport:
    """Run all checks that are not skipped, and measure size and speed if all of them pass.

    Args:
        checks: The checks of the contract.
        case: The component to check.
        report: The report to complete, with kind and name.
        skip: Names of the checks to skip.
        measure: Returns the measurements; called only if all checks pass.

    Raises:
        ContractError: At least one check fails; the message is the report.
        ParameterError: ``skip`` contains an unknown name.
    """
    names = [check.__name__ for check in checks]
    for name in skip:
        if name not in names:
            raise ParameterError(
                f"There is no check {name!r} to skip.{did_you_mean(name, names)} Available: {', '.join(names)}."
            )
    results = {check.__name__: _messages(check, case) for check in checks if check.__name__ not in skip}
    report = replace(
        report,
        failed={name: messages for name, messages in results.items() if messages},
        passed=tuple(name for name, messages in results.items() if not messages),
        skipped=tuple(skip),
    )
    if report.failed:
        raise ContractError(str(report), report)
    return replace(report, measurements=measure(case))


def describe_error(error: Exception) -> str:
    """Return the type and the first line of the message of an error.

    Example:
        >>> describe_error(KeyError("bins"))
        "KeyError: 'bins'"
    """
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _messages(check: Check[C], case: C) -> tuple[str, ...]:
    messages: list[str] = []
    try:
        messages.extend(check(case))
    except Exception as error:  # noqa: BLE001 - a custom component may raise anything, and the report lists it
        requirement = (check.__doc__ or check.__name__).splitlines()[0]
        messages.append(f"{requirement} But the check raised {describe_error(error)}.")
    return tuple(messages)
