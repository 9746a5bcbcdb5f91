"""The training loop: resuming, stopping, and what it refuses."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from comfyui_codi.codi_core.errors import ConfigError
from comfyui_codi.codi_core.processes import LONGEST_WAIT
from comfyui_codi.codi_core.training.loop import LOG_NAME, STATE_NAME, Progress, Settings, TrainingError, train

SETTINGS = Settings(steps=12, batch=4, learning_rate=0.05, precision="fp32", save_every=5)


class Line(nn.Module):
    """Fits y = 3x with noise that is drawn afresh at every step; some of it inside the network."""

    def __init__(self, broken_at: int | None = None):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.broken_at = broken_at
        self.calls = 0

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        return {"x": torch.randn(count, generator=generator)}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        self.calls += 1
        noise = 0.1 * torch.randn_like(batch["x"])
        loss = ((self.slope - 3) * batch["x"] + noise).square().mean()
        return {"loss": loss * float("nan") if self.calls == self.broken_at else loss}


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 5, 7, 11])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path, stop_after: int) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == stop_after:
            raise StoppedError

    whole, parted = Line(), Line()
    train("line", whole, SETTINGS, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train("line", parted, SETTINGS, tmp_path / "parted", stop)
    resumed = Line()
    train("line", resumed, SETTINGS, tmp_path / "parted")
    assert torch.equal(whole.slope, resumed.slope)
    assert resumed.frozen.item() == 1


class Normalised(Line):
    """The same behind a batch normalisation, of which a mean and a variance are kept."""

    def __init__(self):
        super().__init__()
        self.normalisation = nn.BatchNorm1d(1)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return super().forward({"x": self.normalisation(batch["x"][:, None])[:, 0]})


def test_a_resumed_run_goes_on_with_the_statistics_of_batch_normalisation(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 7:
            raise StoppedError

    whole, resumed = Normalised(), Normalised()
    train("line", whole, SETTINGS, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train("line", Normalised(), SETTINGS, tmp_path / "parted", stop)
    train("line", resumed, SETTINGS, tmp_path / "parted")
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    assert int(resumed.normalisation.num_batches_tracked) == SETTINGS.steps


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_networks_are_trained_on_the_gpu_and_come_back(tmp_path: Path) -> None:
    class Placed(Normalised):
        def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
            places.update({self.slope.device.type, batch["x"].device.type})
            return super().forward(batch)

    places: set[str] = set()
    line = Placed()
    for steps in (5, 5):  # the second one goes on from the first one's state
        train("line", line, replace(SETTINGS, steps=steps), tmp_path)
    assert places == {"cuda"}
    assert {value.device.type for value in line.state_dict().values()} == {"cpu"}


def test_a_finished_run_gives_its_weights_without_another_step(tmp_path: Path) -> None:
    first, again = Line(), Line()
    train("line", first, SETTINGS, tmp_path)
    train("line", again, SETTINGS, tmp_path)
    assert again.calls == 0
    assert torch.equal(first.slope, again.slope)


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_last_state(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=rf"nan at step 7; delete {tmp_path} and.*state of step 5 is kept"):
        train("line", Line(broken_at=8), SETTINGS, tmp_path)
    assert torch.load(tmp_path / STATE_NAME, weights_only=True)["step"] == 5


def test_weights_are_not_changed_by_a_gradient_that_is_no_number(tmp_path: Path) -> None:
    class Steep(Line):
        def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
            """Of the root at 0 the gradient is infinite."""
            return {"loss": super().forward(batch)["loss"] + (self.slope * 0).sqrt().sum()}

    steep = Steep()
    with pytest.raises(TrainingError, match=r"finite norm of the gradients, got nan at step 0"):
        train("line", steep, SETTINGS, tmp_path)
    assert steep.slope.item() == 0


def test_ctrl_c_ends_the_step_saves_and_interrupts(tmp_path: Path) -> None:
    def press(progress: Progress) -> None:
        if progress.step == 6:
            signal.raise_signal(signal.SIGINT)

    whole, parted, resumed = Line(), Line(), Line()
    train("line", whole, SETTINGS, tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train("line", parted, SETTINGS, tmp_path / "parted", press)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.load(tmp_path / "parted" / STATE_NAME, weights_only=True)["step"] == 7
    train("line", resumed, SETTINGS, tmp_path / "parted")
    assert resumed.calls == 5
    assert torch.equal(whole.slope, resumed.slope)


@pytest.mark.parametrize("stop_after", [3, 8])
def test_steps_that_are_taken_again_are_logged_once(tmp_path: Path, stop_after: int) -> None:
    """Also those of a run that was stopped before it saved anything."""

    def stop(progress: Progress) -> None:
        if progress.step == stop_after:
            raise StoppedError

    with pytest.raises(StoppedError):
        train("line", Line(), SETTINGS, tmp_path, stop)
    train("line", Line(), SETTINGS, tmp_path)
    steps = [line.split(",")[0] for line in (tmp_path / "losses.csv").read_text().splitlines()]
    assert steps == ["step", *map(str, range(1, 13))]


def test_a_full_disk_says_so_and_keeps_the_last_state(tmp_path: Path, fill_disk) -> None:
    def fill(progress: Progress) -> None:
        if progress.step == 9:
            fill_disk(1000)

    with pytest.raises(TrainingError, match=r"cannot write .*state\.pt .*make room"):
        train("line", Line(), SETTINGS, tmp_path, fill)
    assert torch.load(tmp_path / STATE_NAME, weights_only=True)["step"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG_NAME, STATE_NAME]


def test_a_disk_too_full_for_the_losses_says_so(tmp_path: Path, fill_disk) -> None:
    log = tmp_path / LOG_NAME

    def fill(progress: Progress) -> None:
        if progress.step == 7:
            fill_disk(log.stat().st_size)

    with pytest.raises(TrainingError, match=r"cannot write .*losses\.csv .*make room"):
        train("line", Line(), SETTINGS, tmp_path, fill)
    assert torch.load(tmp_path / STATE_NAME, weights_only=True)["step"] == 5


def test_other_settings_are_refused_in_the_same_folder(tmp_path: Path) -> None:
    train("line", Line(), SETTINGS, tmp_path)
    with pytest.raises(ConfigError, match=r"started with .*'batch': 4.*go on with the same"):
        train("line", Line(), Settings(steps=12, batch=5, precision="fp32"), tmp_path)


def test_another_number_of_processes_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    train("line", Line(), SETTINGS, tmp_path)
    state = torch.load(tmp_path / STATE_NAME, weights_only=True)
    state["settings"]["processes"] = 2
    torch.save(state, tmp_path / STATE_NAME)
    with pytest.raises(ConfigError, match=r"started with .*'processes': 2.*got .*'processes': 1"):
        train("line", Line(), SETTINGS, tmp_path)


def test_every_step_is_reported_and_logged(tmp_path: Path) -> None:
    seen: list[Progress] = []
    train("line", Line(), SETTINGS, tmp_path, seen.append)
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert (tmp_path / "losses.csv").read_text().splitlines()[0] == "step,loss"
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 13


def test_two_processes_learn_what_one_learns_from_twice_the_batch(tiny_folder, tmp_path: Path) -> None:
    script = Path(__file__).with_name("train_together.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for count, batch in ((1, "8"), (2, "4")):
        command = [*launcher, str(count), str(script), str(tiny_folder), str(tmp_path / str(count)), batch]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert f'"processes": {count}' in ended.stdout
        assert f'"longest_wait": "{LONGEST_WAIT}"' in ended.stdout
    for name in ("bridge", "align"):
        losses = [_column(tmp_path / f"{count}/{name}/losses.csv") for count in (1, 2)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        alone, together = (load_file(tmp_path / f"{count}/{name}.safetensors") for count in (1, 2))
        # As a whole: where a gradient is nothing but rounding, Adam makes a step of it all the same.
        first, second = (torch.cat([state[key].flatten() for key in alone]) for state in (alone, together))
        assert (first - second).norm() < 1e-3 * first.norm()


def _column(path: Path) -> list[float]:
    with path.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]
