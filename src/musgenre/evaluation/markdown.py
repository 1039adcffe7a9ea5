"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
