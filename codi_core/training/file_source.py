"""Files as a source of training samples, fitted to what a model makes."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ..audio_ops import resample
from ..config import CoDiConfig
from ..errors import ConfigError, MediaError
from ..fitting import covering
from ..media_files import MOST_FRAMES
from ..modality import Modality
from ..values import Frames, Media, OutputSize, Picture, Waveform
from .loop import TrainingError
from .sample_files import Sample, find_samples
from .source import CAPTIONS_PER_SAMPLE, Pairs, Samples

MOST_TOLD = 10
"""Unreadable samples that are named."""


@dataclass(frozen=True)
class _Fitting:
    """How media of one modality become rows of a batch: `duration_s` of time are cut out, `fit` from a second on."""

    fit: Callable[[Any, float], Any]
    stack: Callable[[list[Any]], Any]
    duration_s: float | None = None


def _fittings(config: CoDiConfig) -> dict[Modality, _Fitting]:
    picture_size, video_size, sound_size = (
        config.modalities[modality].size for modality in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)
    )
    assert video_size.frames is not None and sound_size.seconds is not None
    frames_per_second, frame_count = config.frames_per_second, video_size.frames
    rate_hz, seconds = config.mel["sample_rate_hz"], sound_size.seconds

    def cover(pixels: Float[Tensor, "batch 3 height width"], size: OutputSize) -> Tensor:
        assert size.height is not None and size.width is not None
        return covering(pixels, size.height, size.width)

    def frames(media: Frames, start_s: float) -> Frames:
        moments_s = start_s + torch.arange(frame_count) / float(frames_per_second)
        shown = (moments_s * float(media.frames_per_second)).long().clamp(max=media.pixels.shape[1] - 1)
        return Frames(cover(media.pixels[0, shown], video_size)[None], frames_per_second)

    def sound(media: Waveform, start_s: float) -> Waveform:
        first = round(start_s * media.sample_rate_hz)
        heard = media.samples[..., first : first + math.ceil(seconds * media.sample_rate_hz)].mean(dim=1, keepdim=True)
        samples = resample(heard, media.sample_rate_hz, rate_hz)
        length = round(seconds * rate_hz)
        return Waveform(functional.pad(samples[..., :length], (0, max(0, length - samples.shape[-1]))), rate_hz)

    return {
        Modality.TEXT: _Fitting(lambda text, _: text, lambda rows: rows),
        Modality.IMAGE: _Fitting(
            lambda picture, _: Picture(cover(picture.pixels, picture_size)),
            lambda rows: Picture(torch.cat([row.pixels for row in rows])),
        ),
        Modality.VIDEO: _Fitting(
            frames,
            lambda rows: Frames(torch.cat([row.pixels for row in rows]), frames_per_second),
            float(frame_count / frames_per_second),
        ),
        Modality.AUDIO: _Fitting(
            sound, lambda rows: Waveform(torch.cat([row.samples for row in rows]), rate_hz), seconds
        ),
    }


class FileSource:
    """Samples of folders and shards (sample_files.py). A text file holds one caption per line.

    Pictures and frames are scaled until they cover the model's size and cropped to their middle; of longer videos and
    sounds a part is taken at random, the same of both; shorter ones rest at their last frame, and in silence. A sample
    that cannot be read is passed over with a warning, and the next one taken in its place; so is a video so long that
    it is read with fewer frames per second than the model makes.
    """

    def __init__(self, paths: Sequence[Path], config: CoDiConfig):
        self.paths = paths
        self.found = find_samples(paths)
        self.fittings = _fittings(config)
        self.frames_per_second = config.frames_per_second
        self.unreadable: dict[tuple[int, frozenset[Modality]], str] = {}

    @property
    def digest(self) -> str:
        files = [(str(file.path), file.name, file.size) for sample in self.found for file in sample.values()]
        return hashlib.sha256(repr(files).encode()).hexdigest()[:12]

    def holds(self, modalities: Collection[Modality]) -> bool:
        return any(self._has(sample, modalities) for sample in self.found)

    @staticmethod
    def _has(sample: Sample, modalities: Collection[Modality]) -> bool:
        return all(modality in sample for modality in modalities)

    def _numbers(self, modalities: Collection[Modality]) -> list[int]:
        """Of the samples that have them all."""
        numbers = [number for number, sample in enumerate(self.found) if self._has(sample, modalities)]
        if not numbers:
            counts = [f"{sum(modality in s for s in self.found)} with {modality}" for modality in Modality]
            wanted = " and ".join(modality for modality in Modality if modality in modalities)
            raise ConfigError(
                f"wanted samples with {wanted}, got {len(self.found)} samples in {', '.join(map(str, self.paths))}: "
                f"{', '.join(counts)}; add the files that are missing"
            )
        return numbers

    def _read(self, number: int, modalities: Collection[Modality]) -> dict[Modality, Media]:
        read = {modality: self.found[number][modality].read(modality) for modality in modalities}
        if not read.get(Modality.TEXT, "any"):
            raise MediaError(f"wanted a text, got {self.found[number][Modality.TEXT].name} with none; write one")
        frames: Any = read.get(Modality.VIDEO)
        if frames is not None:
            self._require_smooth(frames, self.found[number][Modality.VIDEO].name)
        return read

    def _require_smooth(self, frames: Frames, name: str) -> None:
        """Of files with more than MOST_FRAMES at least half as many are read, however long they are."""
        wanted, got = self.frames_per_second, frames.frames_per_second
        if got < wanted and frames.pixels.shape[1] > MOST_FRAMES // 2:
            raise MediaError(
                f"wanted a video that is read with at least {float(wanted):g} frames per second, got {name} with "
                f"{float(got):.2g}, since it is long; cut it into clips of at most {MOST_FRAMES / 2 / wanted:.0f} s"
            )

    def _read_from(self, place: int, numbers: list[int], modalities: Collection[Modality]) -> dict[Modality, Media]:
        """The sample at this place of the list, or the next one that can be read."""
        wanted = frozenset(modalities)
        for number in (numbers[(place + step) % len(numbers)] for step in range(len(numbers))):
            if (number, wanted) in self.unreadable:
                continue
            try:
                return self._read(number, modalities)
            except MediaError as error:
                self.unreadable[number, wanted] = str(error)
                self._tell(str(error))
        first = self.unreadable[numbers[0], wanted]
        raise TrainingError(f"none of {len(numbers)} samples can be read; the first one: {first}")

    def _tell(self, why: str) -> None:
        if len(self.unreadable) <= MOST_TOLD:
            warnings.warn(f"passed over a sample: {why}", stacklevel=2)
        if len(self.unreadable) == MOST_TOLD:
            warnings.warn("further samples that cannot be read are passed over in silence", stacklevel=2)

    def _batch(
        self, places: Sequence[int], modalities: Collection[Modality], generator: torch.Generator
    ) -> dict[Modality, Any]:
        """Fitted samples at these places of the list of those that have all modalities; texts with all their lines."""
        numbers = self._numbers(modalities)
        rows: dict[Modality, list[Any]] = {modality: [] for modality in modalities}
        for place in places:
            read = self._read_from(place, numbers, modalities)
            chance = float(torch.rand((), generator=generator))
            start_s = chance * self._latest_start_s(read)
            for modality, media in read.items():
                rows[modality].append(self.fittings[modality].fit(media, start_s))
        return {modality: self.fittings[modality].stack(kept) for modality, kept in rows.items()}

    def _latest_start_s(self, read: Mapping[Modality, Any]) -> float:
        spare = [
            media.duration_s - self.fittings[modality].duration_s
            for modality, media in read.items()
            if self.fittings[modality].duration_s is not None
        ]
        return max(0.0, min(spare, default=0.0))

    def _drawn(self, modalities: Collection[Modality], count: int, generator: torch.Generator) -> dict[Modality, Any]:
        most = len(self._numbers(modalities))
        return self._batch(torch.randint(most, (count,), generator=generator).tolist(), modalities, generator)

    def pictures(self, count: int, generator: torch.Generator) -> Picture:
        if self.holds({Modality.IMAGE}):
            return self._drawn({Modality.IMAGE}, count, generator)[Modality.IMAGE]
        frames = self._drawn({Modality.VIDEO}, count, generator)[Modality.VIDEO].pixels
        return Picture(frames[torch.arange(count), torch.randint(frames.shape[1], (count,), generator=generator)])

    def sounds(self, count: int, generator: torch.Generator) -> Waveform:
        return self._drawn({Modality.AUDIO}, count, generator)[Modality.AUDIO]

    def texts(self, count: int, generator: torch.Generator) -> list[str]:
        return _one_line(self._drawn({Modality.TEXT}, count, generator)[Modality.TEXT], generator)

    def pairs(self, modality: Modality, count: int, generator: torch.Generator) -> Pairs:
        batch = self._drawn({Modality.TEXT, modality}, count, generator)
        texts = batch[Modality.TEXT]
        media = [" ".join(text.split("\n")) for text in texts] if modality is Modality.TEXT else batch[modality]
        return Pairs(_one_line(texts, generator), media, _equal(texts))

    def samples(
        self,
        modalities: Collection[Modality],
        sayable: Modality,
        rows: range,
        generator: torch.Generator,
        captions_each: int = CAPTIONS_PER_SAMPLE,
        nameless: bool = True,
    ) -> Samples:
        """In an order of their own, and from the start again after the last one. Captions are as they were written."""
        most = len(self._numbers(modalities))
        order = torch.randperm(most, generator=torch.Generator().manual_seed(0)).tolist()
        batch = self._batch([order[row % most] for row in rows], modalities, generator)
        if Modality.TEXT not in modalities:
            return Samples(batch, [])
        lines = [_one_line(batch[Modality.TEXT], generator) for _ in range(captions_each)]
        return Samples({**batch, Modality.TEXT: lines[0]}, lines)


def _one_line(texts: list[str], generator: torch.Generator) -> list[str]:
    """One of each text's lines that are not empty."""
    chosen = []
    for text in texts:
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        chosen.append(lines[int(torch.randint(len(lines), (), generator=generator))])
    return chosen


def _equal(texts: list[str]) -> Bool[Tensor, "batch batch"]:
    """Samples of equal texts fit each other's."""
    return torch.tensor([[one == other for other in texts] for one in texts])
