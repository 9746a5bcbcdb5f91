"""What several tests of training share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def fill_disk() -> Iterator[Callable[[int], None]]:
    """From its call on no file grows beyond so many bytes: writers then meet what they meet on a full disk."""
    resource = pytest.importorskip("resource", reason="needs limits of the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
