"""ComfyUI-CoDi: any-to-any generation of text, image, video and audio.

ComfyUI imports this file when it starts, under a module name made of the folder's path, so everything below is
imported relatively and only when the host asks for it: the package stays importable where ComfyUI is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import CoDiExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> CoDiExtension:
    """What ComfyUI calls to learn the nodes of this pack (V3 API)."""
    from .nodes import CoDiExtension

    return CoDiExtension()
