"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LEAK = "**Leaky: tracks, recordings or artists of this data were trained on; the figures flatter the model.**\n\n"
"""What a report that is leaky begins with."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Returns a Markdown table: the first column to the left, figures to the right.

    Example:
        >>> print(table(["genre", "tracks"], [["a|b", "3"]]))
        | genre | tracks |
        | :-- | --: |
        | a\|b | 3 |
    """
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def percent(share: float) -> str:
    """Returns a share in [0, 1] as a percentage.

    Example:
        >>> percent(0.6649)
        '66.5 %'
    """
    return f"{100 * share:.1f} %"


def percents(bounds: tuple[float, float]) -> str:
    """Returns an interval of shares as percentages.

    Example:
        >>> percents((0.6, 0.725))
        '60.0 – 72.5 %'
    """
    low, high = bounds
    return f"{100 * low:.1f} – {percent(high)}"


def decimal(value: float) -> str:
    """Returns a figure with three decimals.

    Example:
        >>> decimal(0.66666)
        '0.667'
    """
    return f"{value:.3f}"


def decimals(bounds: tuple[float, float]) -> str:
    """Returns an interval with three decimals.

    Example:
        >>> decimals((0.6, 0.725))
        '0.600 – 0.725'
    """
    return " – ".join(map(decimal, bounds))
