"""What the doctor says: findings, and a list of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that keeps a network from learning.

    Args:
        what: a name, the same for every network.
        where: the layer, by path and kind, or "input", "labels", "loss", or a part of the data.
        number: what was measured.
        why: why it matters.
        change: what to try first.
        weight: how much it matters; findings are ordered by it.

    Example:
        >>> print(Finding("empty input", "input", "all values are 0", "Nothing arrives.", "check the encoder.", 99))
        empty input at input: all values are 0. Nothing arrives. Try: check the encoder.
    """

    what: str
    where: str
    number: str
    why: str
    change: str
    weight: float

    def __str__(self) -> str:
        return f"{self.what} at {self.where}: {self.number}. {self.why} Try: {self.change}"


class Diagnosis(list[Finding]):
    """Findings, the weightiest first; empty for a network in which nothing was found. It prints as a list.

    Example:
        >>> print(Diagnosis())
        nothing found: input, labels, activity and gradients look healthy
    """

    def __str__(self) -> str:
        if not self:
            return "nothing found: input, labels, activity and gradients look healthy"
        return "\n".join(f"{k}. {finding}" for k, finding in enumerate(self, 1))

    __repr__ = __str__
