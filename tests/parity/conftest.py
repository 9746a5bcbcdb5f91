"""`--goldens DIR` chooses the folder of cases; every case is one test, and a table of errors ends the run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from official_weights import load_models

from comfyui_codi.codi_core.parts import DTYPES

SHIPPED = Path(__file__).parent.parent / "goldens"
NOT_CASES = ("config_", "params_")
table_key = pytest.StashKey[list]()


def goldens_folder(config: pytest.Config) -> Path:
    return Path(config.getoption("--goldens") or SHIPPED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        paths = [
            path
            for path in sorted(goldens_folder(metafunc.config).glob("*.json"))
            if not path.name.startswith(NOT_CASES)
        ]
        full = pytest.mark.skipif(
            not metafunc.config.getoption("--full"), reason="full size: needs --full, manifests and much memory"
        )
        metafunc.parametrize(
            "golden",
            [pytest.param(path, id=path.stem, marks=full if path.stem.startswith("full_") else ()) for path in paths],
        )


@pytest.fixture(scope="session")
def official_models(request: pytest.FixtureRequest):
    return load_models(goldens_folder(request.config), DTYPES[request.config.getoption("--dtype")])


@pytest.fixture
def parity_table(request: pytest.FixtureRequest) -> list:
    return request.config.stash.setdefault(table_key, [])


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    rows = config.stash.get(table_key, [])
    if rows:
        terminalreporter.section("parity: relative L2 error, worst output of each case")
        for name, count, worst, error, limit in sorted(rows):
            terminalreporter.write_line(f"{name:36} {count:3} outputs  {error:8.1e} of {limit:7.0e}  {worst}")
