"""Denoising several outputs together: every diffuser sees what the others are making."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..memory import in_pieces
from ..modality import Modality
from ..placement import device_of
from .environment import at_moments, whole
from .layers import Memories
from .unet import UNet
from .windows import blended, window_starts

VIDEO_AXES = 5
Environments = Mapping[Modality, Tensor]
"""Per output its V(z), shape (batch, moments, environment_width); one moment where time isn't kept."""


class Alignment(StrEnum):
    """Whose environment a diffuser's connectors attend to in a joint run.

    paper: the other outputs' (mean of their unit tokens where there are several), as CoDi describes it.
    released: its own, as the released inference code does, so that outputs don't influence one another.
    mutual: nobody's; instead, what an output is becoming is a prompt for those made after it, or with it (mutual.py).
    For weights without environment encoders, such as the published ones.
    both: the others' environments, and what they are becoming as a prompt as well.
    """

    PAPER = "paper"
    RELEASED = "released"
    MUTUAL = "mutual"
    BOTH = "both"


def _others(modality: Modality, environments: Environments) -> Tensor | None:
    others = [tokens for other, tokens in environments.items() if other != modality]
    moments = max((tokens.shape[1] for tokens in others), default=0)
    return torch.stack([at_moments(tokens, moments) for tokens in others]).mean(dim=0) if others else None


def _own(modality: Modality, environments: Environments) -> Tensor | None:
    return environments.get(modality)


_SEEN: dict[Alignment, Callable[[Modality, Environments], Tensor | None]] = {
    Alignment.PAPER: _others,
    Alignment.RELEASED: _own,
    Alignment.BOTH: _others,
}
"""Alignments that need environments."""
COUPLED = {Alignment.MUTUAL, Alignment.BOTH}
"""Alignments in which outputs are prompts for one another."""


@dataclass(frozen=True)
class JointDenoiser:
    """One to four diffusers that denoise together (CoDi paper, joint multimodal generation by latent alignment).

    Latents and contexts may come in another precision than the diffusers'.

    Paper → here: V_A(z_A) → `environments()[A]`; cross-attention of U_A to V_B(z_B) → the connectors of `diffusers[A]`.
    A single output uses no connectors; nor does a diffuser that has none (weights without latent alignment).
    window_frames: how much of a video is denoised at once; longer ones in overlapping windows. None: all of it.
    guided: whether null prompts come without environments, so that guidance leads to what the others are making as it
    leads to the prompt. Else it leads away from the null prompt alone, and not at all where nothing is asked for.
    """

    diffusers: Mapping[Modality, UNet]
    alignment: Alignment = Alignment.PAPER
    window_frames: int | None = None
    guided: bool = False

    def environments(
        self, latents: Mapping[Modality, Tensor], timesteps: Mapping[Modality, Shaped[Tensor, "batch"]]
    ) -> dict[Modality, Tensor]:
        """V of every output at its own timestep; empty for a single one, and where nobody attends to it."""
        if len(latents) < 2 or self.alignment not in _SEEN:
            return {}
        return {
            modality: self._environment(modality, latent.to(self.diffusers[modality].dtype), timesteps[modality])
            for modality, latent in latents.items()
            if self.diffusers[modality].environment_encoder is not None
        }

    def _environment(self, modality: Modality, latent: Tensor, timestep: Tensor) -> Tensor:
        """Of a long video the mean of its windows' tokens, of unit length again."""
        diffuser, length = self.diffusers[modality], self.window_frames

        def encode(rows: Tensor, when: Tensor) -> Tensor:
            if length is None or not self._is_long(rows):
                return diffuser.encode_environment(rows, when)
            tokens = [
                diffuser.encode_environment(rows[:, :, start : start + length], when)
                for start in window_starts(rows.shape[2], length)
            ]
            return whole(torch.cat(tokens, dim=1))

        def run(pieces: int) -> Tensor:
            chunks = zip(latent.chunk(pieces), timestep.chunk(pieces), strict=True)
            return torch.cat([encode(rows, when) for rows, when in chunks])

        return in_pieces(run, len(latent), f"what the others hear of the {modality}")

    def _is_long(self, latent: Tensor) -> bool:
        """Whether it is a video that is denoised in windows."""
        return latent.ndim == VIDEO_AXES and self.window_frames is not None and latent.shape[2] > self.window_frames

    def prepare_context(self, modality: Modality, context: Float[Tensor, "rows tokens width"]) -> Memories:
        """What one output's diffuser needs of a prompt, the same at every step."""
        diffuser = self.diffusers[modality]
        return diffuser.prepare_context(context.to(device_of(diffuser), diffuser.dtype))

    def denoise(
        self,
        modality: Modality,
        latent: Tensor,
        timestep: Shaped[Tensor, "batch"],
        context: Memories,
        environments: Environments,
    ) -> Tensor:
        """The noise in one output, given every output's environment.

        context: of `UNet.prepare_context`. Its rows may be a multiple of the latent's (guidance: null rows first,
        then those of one prompt or several); latent, timestep and environments are then repeated to match.
        """
        seen = _SEEN[self.alignment](modality, environments) if modality in environments else None
        copies = len(next(iter(context.values())).values) // len(latent)
        if seen is None:
            return self._denoise(modality, latent, timestep, context, copies)
        # Windows see others as a whole: which of their moments belong to which window isn't told.
        seen = whole(seen) if self._is_long(latent) else seen
        if not self.guided:
            environment = self.diffusers[modality].prepare_environment(seen.repeat(copies, 1, 1))
            return self._denoise(modality, latent, timestep, dict(context) | environment, copies)
        # Connectors cannot be left out for some of the rows.
        branches = [{module: memory.part(i, copies) for module, memory in context.items()} for i in range(copies)]
        environment = self.diffusers[modality].prepare_environment(seen)
        return torch.cat(
            [
                self._denoise(modality, latent, timestep, branch if copies > 1 and i == 0 else branch | environment, 1)
                for i, branch in enumerate(branches)
            ]
        )

    def _denoise(
        self, modality: Modality, latent: Tensor, timestep: Shaped[Tensor, "batch"], memories: Memories, copies: int
    ) -> Tensor:
        diffuser = self.diffusers[modality]
        latent = latent.to(diffuser.dtype)
        rows, timesteps = latent.repeat(copies, *(1,) * (latent.ndim - 1)), timestep.repeat(copies)

        def run(pieces: int) -> Tensor:
            made = []
            for index, (piece, when) in enumerate(zip(rows.chunk(pieces), timesteps.chunk(pieces), strict=True)):
                heard = {module: memory.part(index, pieces) for module, memory in memories.items()}
                made.append(self._predict(diffuser, piece, when, heard))
            return torch.cat(made)

        return in_pieces(run, len(rows), f"a step of the {modality}")

    def _predict(self, diffuser: UNet, rows: Tensor, timesteps: Tensor, memories: Memories) -> Tensor:
        if rows.ndim < VIDEO_AXES:
            return diffuser(rows, timesteps, memories)
        return blended(lambda window: diffuser(window, timesteps, memories), rows, self.window_frames)

    def __call__(
        self,
        latents: Mapping[Modality, Tensor],
        timesteps: Mapping[Modality, Shaped[Tensor, "batch"]],
        contexts: Mapping[Modality, Float[Tensor, "rows tokens width"]],
    ) -> dict[Modality, Tensor]:
        """The noise in every output that a context is given for, in one call; the others are only listened to.

        Samplers prepare the contexts once and call the steps above.
        """
        environments = self.environments(latents, timesteps)
        return {
            modality: self.denoise(
                modality,
                latents[modality],
                timesteps[modality],
                self.prepare_context(modality, context),
                environments,
            )
            for modality, context in contexts.items()
        }
