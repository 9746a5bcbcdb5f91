"""The whole of CoDi: encode → mix → sample → decode. Read this first.

prompts (text, Picture, Frames, Waveform)                      text, Picture, Frames, Waveform
   │ encode                                                                       ▲ decode
   ▼                                                                              │
Condition ──► mix(weights) ──► one Condition ──► JointSampler: one diffuser ──► Latents
(b, 1, width), with its null                     per output, each sees the others' V
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from . import encoders
from .config import INDEX_NAME, CoDiConfig
from .decoders import build_codec
from .encoders.factors import KindFactors, PromptFactors
from .errors import CheckpointError, ConfigError, PromptError, ShapeError, choose
from .fitting import fit
from .geometry import filled, latent_shape
from .mixing import MixMode, mix
from .modality import Modality
from .models.joint import COUPLED, Alignment, JointDenoiser
from .models.unet import UNet
from .mutual import Coupling, MutualConditioning
from .native import in_rows
from .offload import OFFLOADING, Offload
from .parts import PROMPT_FACTORS, Parts
from .precision import check_precision
from .sampling import JointSampler, Known, OnStep, SchedulerName, noise_generator, starting_noise
from .values import Condition, Latents, Meaning, Media, OutputSize, Waveform, modality_of

BUNDLED = {"codi-mini": Path(__file__).parent / "assets" / "codi-mini"}


class CoDiPipeline:
    """Any-to-any generation. Each stage can be called by itself; `__call__` runs them all.

    Parts are loaded when a stage first needs them, so that a run holds only what it uses. (diffusers'
    DiffusionPipeline loads all parts at once and finds classes by module name, which ComfyUI makes of a folder's path;
    the folders are nevertheless laid out like its own.)
    """

    def __init__(self, config: CoDiConfig, parts: Parts, alignment: str = Alignment.PAPER):
        self.config = config
        self.parts = parts
        self.alignment = choose("alignment", alignment, Alignment)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        offload: str = Offload.NONE,
        alignment: str = Alignment.PAPER,
    ) -> CoDiPipeline:
        """A model by bundled name or from a folder with model_index.json.

        offload: what stays in main memory while it is idle; see `Offload`.
        Raises CheckpointError if there is no such model, ConfigError for a precision that the device is no good at or
        unknown names; damaged or missing parts raise CheckpointError when first used.
        """
        check_precision(dtype, device)
        folder = BUNDLED.get(str(source), Path(source))
        if not (folder / INDEX_NAME).is_file():
            raise CheckpointError(
                f"wanted a model: {', '.join(BUNDLED)} or a folder with {INDEX_NAME}, got {str(source)!r}"
            )
        config = CoDiConfig.from_folder(folder)
        parts = OFFLOADING[choose("offload", offload, Offload)](config, folder, dtype, device)
        return cls(config, parts, alignment)

    @classmethod
    def from_config(cls, config: CoDiConfig, alignment: str = Alignment.PAPER) -> CoDiPipeline:
        """A model with random weights, to be trained."""
        return cls(config, Parts(config), alignment)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write every part and the index to a folder that `from_pretrained` reads."""
        self.parts.save(Path(folder), dtype)

    @torch.no_grad()
    def encode(self, prompt: Media, negative: Media | None = None) -> Condition:
        """A prompt, or a batch of them, as condition.

        negative: what guidance moves away from, instead of an empty prompt of this kind; one, or one for each prompt.
        Raises PromptError for another number of them.
        """
        self.parts.begin_stage()
        embedding, meaning = self._read(prompt)
        if negative is None:
            null, null_meaning = encoders.encode_null(self.parts, modality_of(prompt)), None
        else:
            null, null_meaning = self._read(negative)
        if len(null) not in (1, len(embedding)):
            raise PromptError(
                f"wanted 1 negative prompt, or {len(embedding)}, one for each prompt, got {len(null)}; leave some out"
            )
        return Condition(embedding, null.expand_as(embedding), meaning=meaning, null_meaning=null_meaning)

    def _read(self, prompt: Media) -> tuple[torch.Tensor, Meaning | None]:
        """The embedding of a prompt, and what it means, as far as that is known."""
        embedding = encoders.encode(self.parts, prompt).float()
        kind = self.kind_factors(modality_of(prompt))
        return embedding, None if kind is None else kind.meaning(embedding)

    def kind_factors(self, modality: Modality) -> KindFactors | None:
        """How prompts of a modality say what they mean, if the model knows."""
        known = PROMPT_FACTORS in self.config.parts
        return cast(PromptFactors, self.parts[PROMPT_FACTORS])(modality) if known else None

    @torch.no_grad()
    def tell(self, condition: Condition, modality: Modality) -> Condition:
        """What the diffuser of this output is told: where its meaning is known, prompts of the output's own kind that
        say the same.

        What captions alone say it is told in captions, which every diffuser learned from: they may leave things open,
        as prompts of other kinds never do, and what is open then comes out as it will.
        """
        meaning = condition.meaning
        kind = None if meaning is None else self.kind_factors(modality)
        if meaning is None or kind is None:
            return condition
        words = self.kind_factors(Modality.TEXT)
        if words is not None and meaning.besides.keys() == {Modality.TEXT}:
            kind = replace(words, emphasis=kind.emphasis)
        embedding = kind.told(meaning)
        null = kind.null if condition.null_meaning is None else kind.told(condition.null_meaning)
        return Condition(embedding, null.expand_as(embedding))

    @torch.no_grad()
    def encode_latent(self, media: Media, size: OutputSize = OutputSize()) -> Latents:  # noqa: B008 (immutable)
        """Media as the latent that would be decoded to them, for `sample` to keep or to change.

        size: what to make of them, see `fit`. Raises ShapeError for sizes that the model doesn't make.
        """
        self.parts.begin_stage()
        modality = modality_of(media)
        codec = build_codec(modality, self.parts, self.config)
        latent = codec.encode(fit(self.config, modality, media, size))
        seconds = min(media.duration_s, size.seconds or media.duration_s) if isinstance(media, Waveform) else None
        return Latents({modality: latent}, seconds)

    def sample(
        self,
        condition: Condition,
        *,
        to: Sequence[Modality | str],
        size: OutputSize = OutputSize(),  # noqa: B008 (immutable)
        steps: int = 25,
        guidance: float | Mapping[Modality, float] | None = None,
        scheduler: str = SchedulerName.DDIM,
        alignment: str | None = None,
        coupling: Coupling = Coupling(),  # noqa: B008 (immutable)
        known: Latents | None = None,
        strength: float = 0.0,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> Latents:
        """Latents of all the outputs, denoised together; one per row of the condition.

        guidance: one scale, or one per modality; 1 follows the prompt alone; None takes the model's own scales.
        coupling: how strongly outputs prompt one another with the alignments "mutual" and "both".
        known: latents of `encode_latent` or of another run. They are among the outputs, and the others are made to fit
        them. Sizes that are left open become those of what is known.
        strength: how much of what is known changes: 0 keeps it, 1 makes it anew. Where a mask of it is 0, it stays; if
        anything has a mask, what has none stays as a whole.
        The same seed gives the same latents, bit by bit, on the same machine.
        Raises ConfigError for unknown names and strengths that are no use, PromptError for a condition of another
        model, ShapeError for sizes that the model cannot make and latents of another model, and whatever `on_step`
        raises, which is how a run is cancelled.
        """
        known = Latents({}) if known is None else known
        asked = [choose("modality", str(name), self.config.modalities) for name in dict.fromkeys(to)]
        outputs = [*asked, *(modality for modality in known.samples if modality not in asked)]
        if not outputs:
            known_names = ", ".join(self.config.modalities)
            raise ConfigError(f"wanted at least one output, got none; choose among {known_names}")
        if known.masks and not strength:
            raise ConfigError(
                f"a mask says what of the {' and '.join(known.masks)} is made anew, but strength is 0 and changes "
                "nothing; raise it, or leave the mask out"
            )
        self._check_width(condition, outputs)
        self.parts.begin_stage()
        if guidance is None:
            guidance = {modality: self.config.modalities[modality].guidance for modality in outputs}
        rows = len(condition.embedding)
        size = filled(self.config, size, known, outputs)
        shapes = {modality: latent_shape(self.config, modality, size) for modality in outputs}
        shapes |= {modality: tuple(one.shape[1:]) for modality, one in known.samples.items()}
        generators = {modality: noise_generator(seed, modality) for modality in outputs}
        noise = {modality: starting_noise(shape, rows, generators[modality]) for modality, shape in shapes.items()}
        denoiser = self.denoiser(outputs, alignment)
        sampler = JointSampler(
            denoiser,
            scheduler=scheduler,
            noise_schedule=self.config.noise_schedule,
            tell=self.tell,
        )
        coupled = denoiser.alignment in COUPLED and coupling.weight > 0 and len(outputs) > 1
        samples = sampler.sample(
            {modality: start.to(self.parts.device) for modality, start in noise.items()},
            condition,
            steps=steps,
            guidance=guidance,
            generators=generators,
            mutual=self._mutual(coupling) if coupled else None,
            known={modality: self._known(known, modality, strength, rows) for modality in known.samples},
            on_step=on_step,
        )
        return Latents(samples, size.seconds)

    def _check_width(self, condition: Condition, outputs: Sequence[Modality]) -> None:
        for modality in outputs:
            diffuser = self.config.modalities[modality].diffuser
            wanted, got = self.config.parts[diffuser]["context_width"], condition.embedding.shape[-1]
            if wanted != got:
                raise PromptError(
                    f"wanted a condition of width {wanted}, such as {self.config.name} makes, got one of width {got}; "
                    "encode it with the same model"
                )

    def _known(self, known: Latents, modality: Modality, strength: float, rows: int) -> Known:
        latent, mask = known.samples[modality].to(self.parts.device), known.masks.get(modality)
        if known.masks and mask is None:
            strength = 0.0
        mask = None if mask is None else mask.to(self.parts.device)
        return Known(latent=in_rows(modality, latent, rows), strength=strength, mask=mask)

    def _mutual(self, coupling: Coupling) -> MutualConditioning:
        def encode_output(modality: Modality, clean: torch.Tensor) -> Condition:
            embedding, meaning = self._read(build_codec(modality, self.parts, self.config).decode(clean))
            null = encoders.encode_null(self.parts, modality)
            return Condition(embedding, null.expand_as(embedding), meaning=meaning)

        return MutualConditioning(coupling, encode_output)

    def denoiser(self, outputs: Sequence[Modality], alignment: str | None = None) -> JointDenoiser:
        """The diffusers of these outputs, wired together."""
        chosen = self.alignment if alignment is None else choose("alignment", alignment, Alignment)
        diffusers = {
            modality: cast(UNet, self.parts[self.config.modalities[modality].diffuser]) for modality in outputs
        }
        video = self.config.modalities.get(Modality.VIDEO)
        return JointDenoiser(
            diffusers,
            chosen,
            window_frames=None if video is None else video.size.frames,
            guided=self.config.guided_alignment,
        )

    def decode(self, latents: Latents, modality: Modality | str) -> Any:
        """One output: list[str], Picture, Frames or Waveform, with as many rows as the latents.

        Raises ShapeError if the latents hold no such output or are not finite.
        """
        chosen = choose("modality", str(modality), Modality)
        if chosen not in latents.samples:
            raise ShapeError(
                f"wanted a latent of {chosen}, got latents of {', '.join(latents.samples)}; sample {chosen} too"
            )
        self.parts.begin_stage()
        codec = build_codec(chosen, self.parts, self.config)
        return codec.decode(latents.samples[chosen], seconds=latents.seconds)

    def __call__(
        self,
        prompts: Sequence[Media],
        to: Sequence[Modality | str],
        *,
        weights: Sequence[float] | None = None,
        mode: str = MixMode.COMPLEMENTARY,
        negative: Media | None = None,
        **sampling: Any,
    ) -> dict[Modality, Any]:
        """From prompts to outputs. weights: relative, one per prompt. sampling: what `sample` takes.

        Raises PromptError for an empty set of prompts or unusable weights.
        """
        condition = mix([self.encode(prompt, negative) for prompt in prompts], weights, mode)
        latents = self.sample(condition, to=to, **sampling)
        return {modality: self.decode(latents, modality) for modality in latents.samples}
