"""Errors that a user can act on. Each message says what was wanted, what came and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Choice = TypeVar("Choice")


class CoDiError(Exception):
    """Base of every error that the user can mend; shown without a traceback."""


class PromptError(CoDiError):
    """A prompt, its weight or a set of them cannot be used."""


class MediaError(CoDiError):
    """A picture, video or sound cannot be read or written."""


class ShapeError(CoDiError):
    """A size, latent or tensor does not fit the model."""


class ConfigError(CoDiError):
    """A setting, preset or option is unknown or contradicts another."""


class CheckpointError(CoDiError):
    """Weights are missing, damaged, of another model, or not safe to load."""


class PrecisionError(CoDiError):
    """A part gave numbers that are not finite: its number format cannot hold what lies between."""


class OutOfMemoryError(CoDiError):
    """Something does not fit on the device."""


class GraphError(CoDiError):
    """A workflow file cannot be run."""


def choose(kind: str, name: str, choices: Iterable[Choice]) -> Choice:
    """The entry of `choices` whose text is `name`; an unknown name raises ConfigError that lists them all."""
    known = list(choices)
    for choice in known:
        if str(choice) == name:
            return choice
    raise ConfigError(f"unknown {kind} {name!r}; choose one of: {', '.join(str(choice) for choice in known)}")
