"""Turning latents into media of the host. Each node also shows what it made."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from ..codi_core.errors import ShapeError
from ..codi_core.host_values import to_host_audio, to_host_frames, to_host_image
from ..codi_core.modality import Modality
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.values import Frames, Latents
from .host import CoDiLatents, CoDiModel, InputImpl, Types, io, schema, temp_folder, ui


def _decode_schema(modality: Modality, *outputs: io.Output, more_inputs: tuple[io.Input, ...] = ()) -> io.Schema:
    """What all Decode nodes share."""
    return schema(
        node_id=f"Decode{modality.capitalize()}",
        display_name=f"Decode {modality.capitalize()}",
        description=f"Turns the {modality} part of what the Joint Sampler made into {outputs[0].io_type} and shows it.",
        inputs=[
            CoDiModel.Input("model", tooltip="The model that made the latents."),
            CoDiLatents.Input("latents", tooltip=f"From a Joint Sampler with {modality} switched on."),
            *more_inputs,
        ],
        outputs=list(outputs),
        is_output_node=True,
    )


def sounds_for(audio: dict[str, Any], videos: int) -> list[dict[str, Any]]:
    """A row of an AUDIO for each of so many videos, with two channels: the host writes one channel 3 dB too quiet.

    One sound serves them all. Raises ShapeError for another number of sounds than one, or one for each.
    """
    waveform = audio["waveform"]
    if len(waveform) not in (1, videos):
        raise ShapeError(
            f"wanted 1 sound, or {videos} of them, one for each video, got {len(waveform)}; connect as many, or one "
            "for all"
        )
    stereo = waveform.expand(-1, 2, -1) if waveform.shape[1] == 1 else waveform[:, :2]
    return [{**audio, "waveform": row[None]} for row in stereo.expand(videos, -1, -1)]


def _preview(video: Any) -> Any:
    """A temporary file of the host, to be played on the node."""
    name = f"codi_{uuid4().hex}.mp4"
    video.save_to(str(temp_folder() / name))
    return ui.SavedResult(name, "", io.FolderType.temp)


class DecodeImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _decode_schema(Modality.IMAGE, io.Image.Output("image", tooltip="The picture."))

    @classmethod
    def execute(cls, model: CoDiPipeline, latents: Latents) -> io.NodeOutput:
        image = to_host_image(model.decode(latents, Modality.IMAGE))
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


class DecodeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _decode_schema(
            Modality.VIDEO,
            io.Video.Output("video", is_output_list=True, tooltip="The video, with the sound if one is connected."),
            io.Image.Output("frames", is_output_list=True, tooltip="The frames of the video as one batch."),
            more_inputs=(
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound to put into the video, such as that of Decode Audio.",
                ),
            ),
        )

    @classmethod
    def execute(cls, model: CoDiPipeline, latents: Latents, audio: dict[str, Any] | None = None) -> io.NodeOutput:
        made = model.decode(latents, Modality.VIDEO)
        clips = [to_host_frames(Frames(row[None], made.frames_per_second)) for row in made.pixels]
        sounds = sounds_for(audio, len(clips)) if audio else [None] * len(clips)
        videos = [
            InputImpl.VideoFromComponents(
                Types.VideoComponents(
                    images=clip,
                    frame_rate=made.frames_per_second,
                    audio=sound,
                )
            )
            for clip, sound in zip(clips, sounds, strict=True)
        ]
        return io.NodeOutput(videos, clips, ui=ui.PreviewVideo([_preview(video) for video in videos]))


class DecodeAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _decode_schema(Modality.AUDIO, io.Audio.Output("audio", tooltip="The sound."))

    @classmethod
    def execute(cls, model: CoDiPipeline, latents: Latents) -> io.NodeOutput:
        audio = to_host_audio(model.decode(latents, Modality.AUDIO))
        return io.NodeOutput(audio, ui=ui.PreviewAudio(audio, cls=cls))


class DecodeText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _decode_schema(Modality.TEXT, io.String.Output("text", is_output_list=True, tooltip="The text."))

    @classmethod
    def execute(cls, model: CoDiPipeline, latents: Latents) -> io.NodeOutput:
        texts = model.decode(latents, Modality.TEXT)
        return io.NodeOutput(texts, ui=ui.PreviewText("\n".join(texts)))
