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

    def __call__(self, batch: dict[str, Any]) -> dict[str, Tensor]: ...


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
    """Minimise an `Objective`; afterwards its networks hold the moving average of their weights.

    Several processes act as one with as many times the batch. State goes to `folder`/state.pt every `save_every` steps
    and at the end; a later call with the same settings goes on from there, step for step as if it had not been stopped.
    Losses are appended to `folder`/losses.csv. Ctrl-C ends the step, saves and then interrupts.
    Raises TrainingError if the state cannot be saved or a loss is not finite, ConfigError if the state belongs to other
    settings.
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
    average = EMAModel(trained, decay=settings.ema_decay, use_ema_warmup=False)
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    first = _resume(folder, settings, trained, optimizer, schedule, average)
    started, saved = time.monotonic(), first
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
            if not math.isfinite(told["loss"]):
                raise TrainingError(
                    f"{task}: the loss is {told['loss']} at step {step}; lower the learning rate. "
                    f"The state of step {saved} is kept in {folder}"
                )
            optimizer.zero_grad()
            accelerator.backward(losses["loss"])
            accelerator.clip_grad_norm_(trained, 1.0)
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
                    _save(folder, settings, done, trained, optimizer, schedule, average)
                if on_progress is not None:
                    pace = (time.monotonic() - started) / (done - first)
                    on_progress(Progress(task, done, settings.steps, told, pace * (settings.steps - done)))
            if stopped:
                raise KeyboardInterrupt
    average.copy_to(trained)
    accelerator.free_memory()


def _save(
    folder: Path, settings: Settings, step: int, trained: list, optimizer: Any, schedule: Any, average: Any
) -> None:
    state = {
        "settings": asdict(settings),
        "step": step,
        "weights": [parameter.detach() for parameter in trained],
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "average": average.state_dict(),
    }
    scratch = folder / f".{STATE_NAME}"
    try:
        torch.save(state, scratch)
        scratch.replace(folder / STATE_NAME)
    except (OSError, RuntimeError) as error:  # torch's writer has no kind of its own for a full disk
        scratch.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot save the state of step {step} in {folder} ({str(error).splitlines()[0]}); make room, then start "
            "again: it goes on from the last state that was saved"
        ) from error


def _resume(folder: Path, settings: Settings, trained: list, optimizer: Any, schedule: Any, average: Any) -> int:
    """The step to go on from."""
    if not (folder / STATE_NAME).exists():
        return 0
    state = torch.load(folder / STATE_NAME, weights_only=True)
    if state["settings"] != asdict(settings):
        raise ConfigError(
            f"the run in {folder} was started with {state['settings']}, got {asdict(settings)}; "
            "go on with the same settings or choose another folder"
        )
    with torch.no_grad():
        for parameter, value in zip(trained, state["weights"], strict=True):
            parameter.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    average.load_state_dict(state["average"])
    _cut_log(folder, state["step"])
    return state["step"]


def _cut_log(folder: Path, step: int) -> None:
    """Forget the losses of steps that will be taken again."""
    path = folder / LOG_NAME
    if processes().is_main_process and path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        scratch = folder / f".{LOG_NAME}"
        scratch.write_text("".join(lines[: step + 1]), encoding="utf-8")
        scratch.replace(path)


def _log(folder: Path, step: int, losses: dict[str, float]) -> None:
    path = folder / LOG_NAME
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", *losses])
        writer.writerow([step, *(f"{value:.6g}" for value in losses.values())])
