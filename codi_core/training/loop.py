"""The loop that every training stage runs in: steps, moving average, checkpoints, resuming."""

from __future__ import annotations

import csv
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import send_to_device
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import CoDiError, ConfigError, choose
from ..processes import gathered, processes, share_of

STATE_NAME = "state.pt"
LOG_NAME = "losses.csv"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TrainingError(CoDiError):
    """Training cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one task is trained.

    batch: samples per step and process. warmup: share of the steps in which the rate rises. precision: of the
    networks' arithmetic, see PRECISIONS. save_every: steps between states to resume from.
    """

    steps: int
    batch: int = 32
    learning_rate: float = 5e-4
    warmup: float = 0.05
    ema_decay: float = 0.995
    precision: str = "bf16"
    save_every: int = 500
    seed: int = 0


@runtime_checkable
class Objective(Protocol):
    """What a task minimises: an `nn.Module` that holds the trained networks; frozen ones have no gradients.

    `draw` makes a batch; calling the module with it gives named losses, of which `loss` is minimised.
    """

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def buffers(self) -> Iterator[Tensor]: ...

    def to(self, device: torch.device) -> Any: ...

    def __call__(self, batch: dict[str, Any]) -> dict[str, Tensor]: ...


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns whatever keeps a file of a run from being written into a TrainingError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch's writer has no kind of its own for a full disk
        raise TrainingError(
            f"cannot write {path} ({str(error).splitlines()[0]}); make room, then start again: it goes on from what "
            "was saved last"
        ) from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` only once all went well.

    Always the same one, since runs are killed at any time: the next overwrites what they left.
    """
    scratch = path.with_name(f".{path.name}")
    try:
        with writing(path):
            yield scratch
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def held_interrupt() -> Iterator[Callable[[], bool]]:
    """Holds back the first Ctrl-C; what it gives tells whether there was one. A second one interrupts at once."""
    pressed = False

    def hold(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread is ever interrupted
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Progress:
    """What the loop tells after each step: losses as floats, seconds left as estimated from the last steps."""

    task: str
    step: int
    steps: int
    losses: dict[str, float]
    seconds_left: float


OnProgress = Callable[[Progress], None]


def step_generator(seed: int, task: str, step: int) -> torch.Generator:
    """The chance of one step depends on these three alone, so a resumed run draws what the first would have drawn."""
    digest = hashlib.sha256(f"{seed}:{task}:{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def train(
    task: str,
    objective: Objective,
    settings: Settings,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> None:
    """Minimise an `Objective`; afterwards its networks, back on their device, hold the moving average of their weights.

    Several processes act as one with as many times the batch. State goes to `folder`/state.pt every `save_every` steps
    and at the end; a later call with the same settings goes on from there, step for step as if it had not been stopped.
    Losses are appended to `folder`/losses.csv. Ctrl-C ends the step, saves and then interrupts.
    Raises TrainingError if a file cannot be written or a loss or gradient is not finite, ConfigError if the state
    belongs to other settings or another number of processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = processes()
    # Not every trained parameter takes part in every loss.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Accelerator's own mixed precision is one for the whole process, but tasks differ.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[unused])
    dtype = PRECISIONS[choose("precision", settings.precision, PRECISIONS)]
    autocast = torch.autocast(accelerator.device.type, dtype, enabled=dtype != torch.float32)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(settings.steps * settings.warmup), settings.steps)
    home = trained[0].device
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    # Only now, since both stay where they are made. Buffers, too, are learned: the statistics of batch normalisation.
    average = EMAModel(trained, decay=settings.ema_decay, use_ema_warmup=False)
    weights = [*trained, *objective.buffers()]
    shared = {**asdict(settings), "processes": place.num_processes}
    first = _resume(folder, shared, weights, optimizer, schedule, average)
    started, saved = time.monotonic(), first

    def require_finite(what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{task}: wanted a finite {what}, got {value} at step {step}; delete {folder} and begin anew with a "
                f"lower learning rate. Until then the state of step {saved} is kept"
            )

    with held_interrupt() as interrupted:
        for step in range(first, settings.steps):
            generator = step_generator(settings.seed, task, step)
            # Networks draw too (posterior samples); they do it from torch's own generator.
            torch.manual_seed(generator.initial_seed() + place.process_index)
            # Everyone draws all of it, which takes little, so that as many samples in one process are the same samples.
            batch = objective.draw(settings.batch * place.num_processes, generator)
            share = send_to_device(share_of(batch, place.process_index, place.num_processes), accelerator.device)
            with autocast:
                losses = wrapped(share)
            told = {name: float(gathered(value.detach()[None]).mean()) for name, value in losses.items()}
            require_finite("loss", told["loss"])
            optimizer.zero_grad()
            accelerator.backward(losses["loss"])
            norm: Any = accelerator.clip_grad_norm_(trained, 1.0)
            require_finite("norm of the gradients", float(norm))
            optimizer.step()
            schedule.step()
            average.step(trained)
            done = step + 1
            # All stop after the same step, or some would wait for the others for ever.
            stopped = bool(gathered(torch.tensor([float(interrupted())], device=accelerator.device)).any())
            if done % settings.save_every == 0 or done == settings.steps or stopped:
                saved = done
            if accelerator.is_main_process:
                _log(folder, done, told)
                if saved == done:
                    _save(folder, shared, done, weights, optimizer, schedule, average)
                if on_progress is not None:
                    pace = (time.monotonic() - started) / (done - first)
                    on_progress(Progress(task, done, settings.steps, told, pace * (settings.steps - done)))
            if stopped:
                raise KeyboardInterrupt
    average.copy_to(trained)
    accelerator.free_memory()
    objective.to(home)


def _save(
    folder: Path,
    settings: dict[str, Any],
    step: int,
    weights: list[Tensor],
    optimizer: Any,
    schedule: Any,
    average: Any,
) -> None:
    state = {
        "settings": settings,
        "step": step,
        "weights": [weight.detach() for weight in weights],
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "average": average.state_dict(),
    }
    with written_whole(folder / STATE_NAME) as scratch:
        torch.save(state, scratch)


def _resume(
    folder: Path, settings: dict[str, Any], weights: list[Tensor], optimizer: Any, schedule: Any, average: Any
) -> int:
    """The step to go on from."""
    if not (folder / STATE_NAME).exists():
        if processes().is_main_process:
            (folder / LOG_NAME).unlink(missing_ok=True)
        return 0
    state = torch.load(folder / STATE_NAME, map_location="cpu", weights_only=True)
    if state["settings"] != settings:
        raise ConfigError(
            f"the run in {folder} was started with {state['settings']}, got {settings}; "
            "go on with the same settings, or delete it to begin anew"
        )
    with torch.no_grad():
        for weight, value in zip(weights, state["weights"], strict=True):
            weight.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    average.load_state_dict(state["average"])
    average.to(weights[0].device)
    _cut_log(folder, state["step"])
    return state["step"]


def _cut_log(folder: Path, step: int) -> None:
    """Forget the losses of steps that will be taken again."""
    path = folder / LOG_NAME
    if processes().is_main_process and path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with written_whole(path) as scratch:
            scratch.write_text("".join(lines[: step + 1]), encoding="utf-8")


def _log(folder: Path, step: int, losses: dict[str, float]) -> None:
    path = folder / LOG_NAME
    new = not path.exists()
    with writing(path), path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", *losses])
        writer.writerow([step, *(f"{value:.6g}" for value in losses.values())])
