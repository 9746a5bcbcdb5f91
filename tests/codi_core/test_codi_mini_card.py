"""The shipped model's card: every table is that of a report, and every report that of the shipped weights."""

from __future__ import annotations

import json

import pytest
from benchmarks.tables import FOLDER, tables

from comfyui_codi.codi_core.evaluation.command import EXPERIMENTS
from comfyui_codi.codi_core.evaluation.experiment import digest_of_files
from comfyui_codi.codi_core.pipeline import CoDiPipeline


@pytest.fixture(scope="module")
def pipeline() -> CoDiPipeline:
    return CoDiPipeline.from_pretrained("codi-mini")


def test_every_evaluation_has_a_report_of_the_shipped_weights_and_a_picture(pipeline: CoDiPipeline) -> None:
    shipped = digest_of_files(pipeline.parts)
    for name in EXPERIMENTS:
        assert json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["sha256"] == shipped, name
        assert (FOLDER / f"{name}.png").is_file(), name


def test_the_card_has_the_tables_of_the_reports_word_for_word(pipeline: CoDiPipeline) -> None:
    assert pipeline.parts.folder is not None
    card = (pipeline.parts.folder / "README.md").read_text(encoding="utf-8")
    missing = [table for drawn in tables(FOLDER).values() for table in drawn if table not in card]
    assert not missing, "\n\n".join(missing)
