"""What the browser is told while outputs are made: how far each is, and drafts of it. Shown by web/js/progress.js."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from ..codi_core.drafts import Draft, Drafts
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.sampling import StepReport
from .host import is_watched, send_event

EVENT = "codi.progress"


class Live:
    """Sends EVENT after every step: {"node", "step", "steps", "modalities": {modality: {"share", "pictures", "text"}}}.

    share: of its steps that an output has behind it, 0 to 1; None for one that is kept. pictures: JPEGs as data URLs,
    several of a video. Pictures and texts are there when they are new.
    """

    def __init__(self, node_id: str | None, pipeline: CoDiPipeline) -> None:
        self.node_id = node_id
        self.drafts = Drafts(pipeline)

    def __call__(self, report: StepReport) -> None:
        if not is_watched():
            return
        # The last step is followed by the outputs themselves.
        drafts = self.drafts(report.clean) if report.step < report.steps else {}
        modalities: dict[str, Any] = {}
        for modality, share in report.shares.items():
            modalities[modality] = {"share": share} | (_told(drafts[modality]) if modality in drafts else {})
        send_event(EVENT, {"node": self.node_id, "step": report.step, "steps": report.steps, "modalities": modalities})


def _told(draft: Draft) -> dict[str, Any]:
    return {"text": draft} if isinstance(draft, str) else {"pictures": list(map(_data_url, draft))}


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
