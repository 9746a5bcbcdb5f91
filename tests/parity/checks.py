"""The check for each kind of golden case."""

from __future__ import annotations

from collections.abc import Callable

from cases import Case, Pairs
from diffuser_checks import DIFFUSER_CHECKS
from library_checks import LIBRARY_CHECKS
from pipeline_checks import PIPELINE_CHECKS

CHECKS: dict[str, Callable[[Case], Pairs]] = {**LIBRARY_CHECKS, **DIFFUSER_CHECKS, **PIPELINE_CHECKS}
"""By the beginning of the case's name; the longest that fits counts."""


def check_for(name: str) -> Callable[[Case], Pairs] | None:
    fitting = [start for start in CHECKS if name.startswith(start)]
    return CHECKS[max(fitting, key=len)] if fitting else None
