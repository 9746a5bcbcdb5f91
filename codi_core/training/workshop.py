"""A model in the making: the folder that the stages' tasks read and write, and the tables that they learn from."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import INDEX_NAME, CoDiConfig, mini, read_json
from ..decoders import build_codec
from ..decoders.mel import MelFrontend
from ..errors import ConfigError
from ..modality import Modality
from ..parts import CONFIG_NAME, WEIGHTS_NAME, Parts, attach_tokenizers, build_part, load_part, save_part, write_index
from ..pipeline import CoDiPipeline
from ..processes import processes
from ..sampling import make_scheduler
from .captions import corpus
from .loop import OnProgress, Progress
from .pairs import Columns, fingerprint, kept, make_table
from .source import Source
from .tokenizers import train_tokenizers
from .world_source import WorldSource

CORPUS = 100_000
SCALE_SAMPLES = 256


class Workshop(Parts):
    """Parts are read from the folder where they exist, and begin with fresh weights else. So do V and connectors of
    diffusers that were stored without.

    source: what it learns from. on_progress: is told of every step, and of every table as it grows.
    """

    def __init__(self, config: CoDiConfig, folder: Path, source: Source, on_progress: OnProgress | None = None) -> None:
        super().__init__(config, folder)
        self.source = source
        self.on_progress = on_progress

    @property
    def home(self) -> Path:
        """The folder, which a model that is only used may lack."""
        assert self.folder is not None
        return self.folder

    def _make(self, name: str) -> nn.Module:
        arguments = self.config.parts[name]
        if not self.has(name):
            torch.manual_seed(0)
            part = build_part(name, arguments).to(self.device)
            attach_tokenizers(name, part, self.home / name)
            return part
        if arguments.get("environment") is not None and not self._has_environment(name):
            return self._with_fresh_environment(name)
        return load_part(self.home, name, arguments, self.dtype, self.device)

    def _has_environment(self, name: str) -> bool:
        return read_json(self.home / name / CONFIG_NAME).get("environment") is not None

    def _with_fresh_environment(self, name: str) -> nn.Module:
        """A diffuser that was stored without V and connectors, as the released ones are, and gets fresh ones."""
        arguments = self.config.parts[name]
        stored = load_part(self.home, name, {**arguments, "environment": None}, self.dtype, self.device)
        torch.manual_seed(0)
        part = build_part(name, arguments).to(self.device)
        part.load_state_dict(stored.state_dict(), strict=False, assign=True)
        return part.eval().requires_grad_(False)

    def has(self, name: str) -> bool:
        """Whether a part was trained before."""
        return (self.home / name / WEIGHTS_NAME).exists()

    def trainable(self, name: str) -> Any:
        """A part that learns as a whole; loaded ones come frozen."""
        return self[name].train().requires_grad_(True)

    def diffuser(self, modality: Modality) -> Any:
        """The diffuser of a modality."""
        return self[self.config.modalities[modality].diffuser]

    def write(self, *names: str) -> None:
        """Keep these parts, in the precision that they are trained in."""
        for name in names:
            save_part(self.home, name, self[name], self.config.parts[name], torch.float32)

    def reread_index(self) -> None:
        """Take over what tasks, here or elsewhere, have written to the index meanwhile."""
        self.config = self.config.with_modalities(self.home)

    def mel(self) -> MelFrontend:
        """From waves to the frames that the audio autoencoder and the vocoder know."""
        return MelFrontend(**self.config.mel)

    def scheduler(self) -> Any:
        """The noise that diffusers learn to take away."""
        return make_scheduler("ddim", self.config.noise_schedule)

    def table(
        self,
        latents_of: tuple[Modality, ...],
        prompts_of: tuple[Modality, ...],
        sayable: Modality,
        rows: int,
        seed: int,
    ) -> Columns:
        """The table of these samples, from the folder or made now; see `make_table`."""
        pipeline = CoDiPipeline(self.config, self)
        used = [name for name in self if name.startswith(("clip", "clap")) or "autoencoder" in name]
        named = "-".join([*latents_of, "by", *prompts_of, "saying", sayable, str(rows)])
        made_of = f"{self.source.digest}-{fingerprint(self, used)}"
        path = self.home / "tables" / f"{named}-{made_of}.safetensors"
        with processes().main_process_first():
            return kept(
                path,
                lambda: make_table(
                    pipeline,
                    self.source,
                    latents_of,
                    prompts_of,
                    sayable,
                    rows,
                    seed,
                    self.telling(f"table {named}", rows),
                ),
            )

    def telling(self, name: str, rows: int) -> Callable[[int], None]:
        """Tells of rows that are made as if they were steps."""
        started = time.monotonic()

        def tell(done: int) -> None:
            if self.on_progress is not None:
                pace = (time.monotonic() - started) / done
                self.on_progress(Progress(name, done, rows, {}, pace * (rows - done)))

        return tell


def prepare(
    folder: Path, config: CoDiConfig, source: Source | None = None, on_progress: OnProgress | None = None
) -> Workshop:
    """The workshop in this folder; a new one gets the tokenizers of the procedural world's captions.

    source: by default the procedural world. on_progress: see Workshop. Raises ConfigError if the folder holds another
    model.
    """
    with processes().main_process_first():
        if not (folder / INDEX_NAME).exists():
            _begin(folder, config)
    held = read_json(folder / INDEX_NAME).get("name")
    if held != config.name:
        raise ConfigError(
            f"wanted a model folder of {config.name}, got {folder} of {held}; name the preset that it was begun with, "
            "or another folder"
        )
    source = WorldSource() if source is None else source
    return Workshop(config.with_modalities(folder), folder, source, on_progress)


def _begin(folder: Path, config: CoDiConfig) -> None:
    if config.parts["clip"]["text"].get("vocab_size") != mini().parts["clip"]["text"]["vocab_size"]:
        raise ConfigError(
            f"wanted a model folder to go on from, since {config.name} reads public vocabularies, got {folder} "
            f"without {INDEX_NAME}; make one by `codi convert`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        train_tokenizers(corpus(CORPUS, torch.Generator().manual_seed(0)), Path(scratch))
        places = {"clip": "clip/tokenizer", "bert": "text_autoencoder/encoder_tokenizer"}
        places["gpt2"] = "text_autoencoder/decoder_tokenizer"
        for name, place in places.items():
            (folder / place).parent.mkdir(exist_ok=True)
            shutil.rmtree(folder / place, ignore_errors=True)
            (Path(scratch) / name).rename(folder / place)
    write_index(config, folder)


def measure_scale(workshop: Workshop, *modalities: Modality) -> None:
    """Set the latent scale of these modalities so that latents have unit variance, and write it to the index."""
    workshop.reread_index()
    entries = dict(workshop.config.modalities)
    generator = torch.Generator().manual_seed(0)
    for modality in modalities:
        entries[modality] = replace(entries[modality], latent_scale=1.0)
    workshop.config = replace(workshop.config, modalities=entries)
    with torch.no_grad():
        for modality in modalities:
            codec = build_codec(modality, workshop, workshop.config)
            samples = workshop.source.samples({modality}, modality, range(SCALE_SAMPLES), generator)
            latent = codec.encode(samples.media[modality])
            entries[modality] = replace(entries[modality], latent_scale=1 / float(latent.std()))
    workshop.config = replace(workshop.config, modalities=entries)
    write_index(workshop.config, workshop.home)
