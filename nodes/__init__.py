"""The ComfyUI nodes: each one is a schema and a few lines that call `codi_core`. One file per stage."""

from __future__ import annotations

from .decode import DecodeAudio, DecodeImage, DecodeText, DecodeVideo
from .download import DownloadCoDi
from .encode import EncodeModality
from .host import ComfyExtension, io
from .keep import EncodeLatents, MaskLatents
from .load import LoadCoDi
from .mix import FadeConditions, InterpolateConditions
from .native import JoinLatents, LatentsFromNative, NativeModel, NativeNoise, SplitLatents
from .sample import JointSampler
from .similarity import CompareSimilarity

NODES: list[type[io.ComfyNode]] = [
    LoadCoDi,
    EncodeModality,
    InterpolateConditions,
    FadeConditions,
    EncodeLatents,
    MaskLatents,
    JointSampler,
    DecodeImage,
    DecodeVideo,
    DecodeAudio,
    DecodeText,
    CompareSimilarity,
    SplitLatents,
    JoinLatents,
    NativeModel,
    NativeNoise,
    LatentsFromNative,
    DownloadCoDi,
]


class CoDiExtension(ComfyExtension):
    """What ComfyUI asks for the list of nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
