"""Reading official .pth files without holding them, writing safetensors tensor by tensor, and what can go wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
"""As safetensors spells them."""
HEADER_LENGTH_BYTES = 8


def open_official(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth file by name, left on disk until they are touched.

    Only tensors are ever unpickled. Raises CheckpointError for a missing, damaged or unsafe file.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"wanted a checkpoint, found no file {path}; check its name") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, which could run a program, or is no checkpoint; "
            f"download the official file anew ({first_line(error)})"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path} as a checkpoint of PyTorch ({first_line(error)}); "
            "if the download was cut short, download it again"
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"wanted tensors by name in {path}, got something else; it is not a CoDi checkpoint")
    return tensors


def first_line(error: Exception) -> str:
    """What the error says, or its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns what the system refuses meanwhile into a CheckpointError about the folder."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write {folder}: {error.strerror or error}; make room or choose another folder"
        ) from error


def write_safetensors(
    path: Path,
    layout: Mapping[str, Tensor],
    pieces: Iterable[tuple[str, Tensor]],
    on_bytes: Callable[[int], None],
) -> None:
    """Write a safetensors file with one tensor in memory at a time (the library's own writer copies them all).

    layout: empty tensors that give every name its shape and number format, in the file's order. pieces: the same names
    with their numbers, in the same order. on_bytes: told how many bytes were written, piece by piece.
    Raises CheckpointError for a number that is not finite in its format.
    """
    header, end = {}, 0
    for name, tensor in layout.items():
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % HEADER_LENGTH_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(HEADER_LENGTH_BYTES, "little"))
        file.write(text)
        for name, tensor in pieces:
            written = tensor.to(layout[name].dtype).contiguous()
            if written.is_floating_point() and not written.isfinite().all():
                raise CheckpointError(
                    f"{name} is not finite as {DTYPE_NAMES[written.dtype]}; "
                    "convert to bf16 or fp32, or download the file anew"
                )
            file.write(written.reshape(-1).view(torch.uint8).numpy().data)
            on_bytes(written.nbytes)
