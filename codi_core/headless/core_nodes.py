"""ComfyUI's own nodes that graphs need around ours, with the ids, inputs and defaults of ComfyUI 0.8."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, cast

from .. import media
from ..host_values import to_host_audio, to_host_image
from ..modality import Modality
from ..values import Picture, Waveform
from . import io, ui
from .folders import next_output
from .host import VideoComponents, VideoFromComponents, VideoFromFile


class _CoreNode(io.ComfyNode):
    """A node whose schema never changes."""

    schema: ClassVar[io.Schema]

    @classmethod
    def define_schema(cls) -> io.Schema:
        return replace(cls.schema)


def _metadata(hidden: io.HiddenHolder) -> dict[str, Any]:
    """What a saved file carries, so that ComfyUI can open it as the graph that made it."""
    return {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}


def _save_rows(cls: type[io.ComfyNode], kind: str, value: Any, filename_prefix: str) -> io.NodeOutput:
    texts = {name: json.dumps(content) for name, content in _metadata(cls.hidden).items()}
    paths = ui.write_rows(value, partial(next_output, filename_prefix), texts)
    return io.NodeOutput(ui={kind: [ui.saved_result(path) for path in paths]})


class LoadImage(_CoreNode):
    schema = io.Schema(
        "LoadImage",
        "Load Image",
        inputs=[io.Combo.Input("image", upload=io.UploadType.image)],
        outputs=[io.Image.Output()],
    )

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        return io.NodeOutput(to_host_image(cast(Picture, media.read(image, Modality.IMAGE))))


class LoadAudio(_CoreNode):
    schema = io.Schema(
        "LoadAudio",
        "Load Audio",
        inputs=[io.Combo.Input("audio", upload=io.UploadType.audio)],
        outputs=[io.Audio.Output()],
    )

    @classmethod
    def execute(cls, audio: str) -> io.NodeOutput:
        return io.NodeOutput(to_host_audio(cast(Waveform, media.read(audio, Modality.AUDIO))))


class LoadVideo(_CoreNode):
    schema = io.Schema(
        "LoadVideo",
        "Load Video",
        inputs=[io.Combo.Input("file", upload=io.UploadType.video)],
        outputs=[io.Video.Output()],
    )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(VideoFromFile(file))


class SaveImage(_CoreNode):
    schema = io.Schema(
        "SaveImage",
        "Save Image",
        inputs=[io.Image.Input("images"), io.String.Input("filename_prefix", default="ComfyUI")],
        is_output_node=True,
    )

    @classmethod
    def execute(cls, images: Any, filename_prefix: str) -> io.NodeOutput:
        return _save_rows(cls, "images", images, filename_prefix)


class SaveAudio(_CoreNode):
    schema = io.Schema(
        "SaveAudio",
        "Save Audio (FLAC)",
        inputs=[io.Audio.Input("audio"), io.String.Input("filename_prefix", default="audio/ComfyUI")],
        is_output_node=True,
    )

    @classmethod
    def execute(cls, audio: Any, filename_prefix: str) -> io.NodeOutput:
        return _save_rows(cls, "audio", audio, filename_prefix)


class SaveVideo(_CoreNode):
    schema = io.Schema(
        "SaveVideo",
        "Save Video",
        inputs=[
            io.Video.Input("video"),
            io.String.Input("filename_prefix", default="video/ComfyUI"),
            io.Combo.Input("format", options=["auto", "mp4"], default="auto"),
            io.Combo.Input("codec", options=["auto", "h264"], default="auto"),
        ],
        is_output_node=True,
    )

    @classmethod
    def execute(cls, video: Any, filename_prefix: str, format: str, codec: str) -> io.NodeOutput:
        path = next_output(filename_prefix, ".mp4")
        video.save_to(str(path), format=format, codec=codec, metadata=_metadata(cls.hidden))
        return io.NodeOutput(ui=ui.PreviewVideo([ui.saved_result(path)]))


class CreateVideo(_CoreNode):
    schema = io.Schema(
        "CreateVideo",
        "Create Video",
        inputs=[
            io.Image.Input("images"),
            io.Float.Input("fps", default=30.0, min=1.0, max=120.0, step=1.0),
            io.Audio.Input("audio", optional=True),
        ],
        outputs=[io.Video.Output()],
    )

    @classmethod
    def execute(cls, images: Any, fps: float, audio: Any = None) -> io.NodeOutput:
        return io.NodeOutput(VideoFromComponents(VideoComponents(images, Fraction(fps), audio)))


class GetVideoComponents(_CoreNode):
    schema = io.Schema(
        "GetVideoComponents",
        "Get Video Components",
        inputs=[io.Video.Input("video")],
        outputs=[io.Image.Output("images"), io.Audio.Output("audio"), io.Float.Output("fps")],
    )

    @classmethod
    def execute(cls, video: Any) -> io.NodeOutput:
        parts = video.get_components()
        return io.NodeOutput(parts.images, parts.audio, float(parts.frame_rate))


class PreviewImage(_CoreNode):
    schema = io.Schema("PreviewImage", "Preview Image", inputs=[io.Image.Input("images")], is_output_node=True)

    @classmethod
    def execute(cls, images: Any) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewImage(images))


class PreviewAudio(_CoreNode):
    schema = io.Schema("PreviewAudio", "Preview Audio", inputs=[io.Audio.Input("audio")], is_output_node=True)

    @classmethod
    def execute(cls, audio: Any) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewAudio(audio))


class PreviewAny(_CoreNode):
    schema = io.Schema("PreviewAny", "Preview as Text", inputs=[io.AnyType.Input("source")], is_output_node=True)

    @classmethod
    def execute(cls, source: Any) -> io.NodeOutput:
        return io.NodeOutput(ui=ui.PreviewText(str(source)))


def _primitive(node_id: str, title: str, kind: type[io.ComfyType], **widget: Any) -> type[_CoreNode]:
    """A node that hands its one value on."""

    def execute(cls: type[io.ComfyNode], value: Any) -> io.NodeOutput:
        return io.NodeOutput(value)

    schema = io.Schema(node_id, title, inputs=[kind.Input("value", **widget)], outputs=[kind.Output()])
    return type(node_id, (_CoreNode,), {"schema": schema, "execute": classmethod(execute)})


CORE_NODES: dict[str, type[io.ComfyNode]] = {
    node.schema.node_id: node
    for node in (
        LoadImage,
        LoadAudio,
        LoadVideo,
        SaveImage,
        SaveAudio,
        SaveVideo,
        CreateVideo,
        GetVideoComponents,
        PreviewImage,
        PreviewAudio,
        PreviewAny,
        _primitive("PrimitiveString", "String", io.String, default=""),
        _primitive("PrimitiveStringMultiline", "String (Multiline)", io.String, default=""),
        _primitive("PrimitiveInt", "Int", io.Int, default=0, control_after_generate=True),
        _primitive("PrimitiveFloat", "Float", io.Float, default=0.0),
        _primitive("PrimitiveBoolean", "Boolean", io.Boolean, default=False),
    )
}
