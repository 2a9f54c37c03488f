"""The product of cases: every subject x mode x dtypes x state before the first step x transformation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from differential.neurons import SUBJECTS
from differential.transformations import TRANSFORMATIONS

DTYPES = (
    ("float32", "float32"),
    ("float64", "float64"),
    ("float16", "float16"),
    ("bfloat16", "bfloat16"),
    ("float32", "bfloat16"),
    ("float32", "float16"),
    ("float64", "float32"),
    ("float32", "float64"),
    ("bfloat16", "float32"),
    ("float32", "uint8"),
)
"""Of state and input."""

STARTS = ("rest", "other")
"""The state before the first step: the resting one, or another."""

MODES = ("auto", "step", "layer", "parallel", "fixed_point", "fused")


class Group(NamedTuple):
    """Cases that share their input and what they are compared with."""

    subject: str
    state_dtype: str
    input_dtype: str


class Program(NamedTuple):
    """Cases that share one compiled program: the state before the first step alone is another."""

    group: Group
    mode: str
    transformation: str


class Case(NamedTuple):
    """One case of the product."""

    program: Program
    start: str

    def __str__(self) -> str:
        (subject, state, x), mode, transformation = self.program
        return f"{subject}/{mode}/{state},{x}/{self.start}/{transformation}"


def groups() -> list[Group]:
    """All subjects for the first dtypes come first."""
    every = [Group(name, *dtypes) for dtypes, name in itertools.product(DTYPES, SUBJECTS)]
    return [group for group in every if group.state_dtype != "float16" or SUBJECTS[group.subject].half]


def programs(group: Group) -> Iterator[Program]:
    """Those that the subject is said to run in; whether the modes are legal for these dtypes is found later."""
    for mode, (name, transformation) in itertools.product(MODES, TRANSFORMATIONS.items()):
        dtypes = group.state_dtype, group.input_dtype
        subject = SUBJECTS[group.subject]
        if not subject.trains and name == "vmap_weights":
            continue
        if mode in subject.modes and transformation.takes(mode, *dtypes):
            yield Program(group, mode, name)
