"""The prompt encoders behind one face: `encode` for any prompt, `null_like` for the absence of one."""

from .clap import CLAPEncoder
from .clip import CLIPEncoder
from .factors import PromptFactors
from .prompt import encode, encode_null, null_like

__all__ = ["CLAPEncoder", "CLIPEncoder", "PromptFactors", "encode", "encode_null", "null_like"]
