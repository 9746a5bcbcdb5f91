"""Loaded by ComfyUI as a pack of its own: a node that writes what the Joint Sampler made, to be compared."""

from pathlib import Path

import folder_paths
from safetensors.torch import save_file


class SaveLatents:
    CATEGORY = "tests"
    FUNCTION = "save"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 (the host's name)
        return {"required": {"latents": ("CODI_LATENTS",)}}

    def save(self, latents):
        samples = {str(modality): latent.contiguous() for modality, latent in latents.samples.items()}
        folder = Path(folder_paths.get_output_directory())
        folder.mkdir(exist_ok=True)
        save_file(samples, folder / "latents.safetensors")
        return ()


NODE_CLASS_MAPPINGS = {"SaveLatents": SaveLatents}
