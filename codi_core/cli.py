"""The command line: parse and call. What takes long to import is imported by the command that needs it."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .errors import CoDiError, choose
from .modality import Modality

app = typer.Typer(
    help="Any-to-any generation with CoDi.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

Texts = list[str] | None
Files = Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A file as prompt. May be repeated.")]
OutputDir = Annotated[Path, typer.Option(help="Folder for the results. What lies there is never overwritten.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a list.")]
DType = Annotated[
    str | None, typer.Option(help="Weights as fp32, bf16 or fp16. Left out: fp16 on a GPU, fp32 without one.")
]
OUTPUT_DIR = Path("output")
PROMPTS = list(Modality)
EXTRAS = {"torch": "standalone", "torchaudio": "standalone", "matplotlib": "evaluate"}
"""What an installation for ComfyUI lacks, and with which extra it comes."""


class PairingWeights(TyperCommand):
    """A command whose nth weight belongs to the nth prompt of the command line, of whatever kind they are.

    Options of one kind come to the function together, so the weights are brought into the same order.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        *_, options = self.make_parser(ctx).parse_args(list(args))
        rest = super().parse_args(ctx, args)
        kinds: list[Any] = [option.name for option in options if option.name in PROMPTS]
        weights = ctx.params["weight"]
        if weights and len(kinds) == len(weights):
            pairs = sorted(zip(kinds, weights, strict=True), key=lambda pair: PROMPTS.index(pair[0]))
            ctx.params["weight"] = [weight for _, weight in pairs]
        return rest


@app.command()
def run(
    graph: Annotated[Path, typer.Argument(help="A workflow as ComfyUI saves it, in UI or API format.")],
    settings: Annotated[
        Texts, typer.Option("--set", metavar="NODE.INPUT=VALUE", help="Change an input. NODE: id, title or class.")
    ] = None,
    files: Annotated[
        Texts, typer.Option("--input", metavar="NAME=FILE", help="Load another file. NAME: node or file named there.")
    ] = None,
    output_dir: OutputDir = OUTPUT_DIR,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every node that has one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a saved workflow without ComfyUI and list the files that it wrote."""
    from ..nodes import NODES
    from .headless.command import run_command

    run_command(
        graph,
        {node.GET_SCHEMA().node_id: node for node in NODES},
        output_dir=output_dir,
        settings=settings or (),
        files=files or (),
        seed=seed,
        as_json=as_json,
    )


@app.command(cls=PairingWeights)
def generate(
    to: Annotated[
        list[str], typer.Option(metavar="KINDS", help="What to make, with commas: text, image, video, audio.")
    ],
    text: Annotated[Texts, typer.Option(help="A prompt in words. May be repeated, as the following ones.")] = None,
    image: Files = None,
    audio: Files = None,
    video: Files = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Weight of a prompt; once for each, in the order of the prompts. Only ratios count."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="How prompts are mixed. complementary: each counts for what it tells. linear, "
            "norm_preserving, slerp: as they are. composed: each guides by itself."
        ),
    ] = "complementary",
    negative: Annotated[str | None, typer.Option(help="What to stay away from, in words.")] = None,
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="A bundled model or a folder.")] = "codi-mini",
    dtype: DType = None,
    offload: Annotated[
        str,
        typer.Option(
            help="What a GPU holds. parts: what encoding, sampling or decoding uses. layers: the layer that computes; "
            "slow. none: all that was used."
        ),
    ] = "parts",
    steps: Annotated[int, typer.Option(help="Denoising steps. More are slower and usually cleaner.")] = 25,
    guidance: Annotated[
        float | None,
        typer.Option(help="How strongly prompts are followed. 1: no guidance. Left out: the model's own scale."),
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="How a step is taken: ddim, dpmpp_2m, unipc, euler or euler_ancestral.")
    ] = "ddim",
    alignment: Annotated[
        str,
        typer.Option(
            help="paper: outputs see one another. released: each sees itself, as in the published code. mutual: what "
            "is made is a prompt for what is made after it, for weights that were not trained to agree. both: paper "
            "and mutual; outputs agree best."
        ),
    ] = "paper",
    coupling: Annotated[
        float, typer.Option(help="With mutual and both: share of the other outputs in an output's condition.")
    ] = 0.65,
    coupling_start: Annotated[
        float, typer.Option(help="With mutual and both: share of its steps before others look at an output.")
    ] = 0.3,
    coupling_interval: Annotated[int, typer.Option(help="With mutual and both: steps from one look to the next.")] = 1,
    coupling_lead: Annotated[
        float,
        typer.Option(
            help="With mutual and both: share of the steps by which text is ahead of video, video of audio, audio of "
            "image. 0: all at once. 1: one after another."
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Start of the noise. The same one gives the same files.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many to make of each.")] = 1,
    output_dir: OutputDir = OUTPUT_DIR,
    as_json: AsJson = False,
) -> None:
    """Make any set of outputs from any set of prompts and list the files written."""
    outputs = [choose("modality", name.strip(), Modality) for name in ",".join(to).split(",")]
    from .generate import generate_command
    from .mutual import Coupling

    prompts = {Modality.TEXT: text, Modality.IMAGE: image, Modality.VIDEO: video, Modality.AUDIO: audio}
    generate_command(
        [(kind, prompt) for kind in PROMPTS for prompt in prompts[kind] or ()],
        outputs,
        model=model,
        dtype=dtype,
        offload=offload,
        weights=weight,
        mode=mode,
        negative=negative,
        count=count,
        output_dir=output_dir,
        as_json=as_json,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        alignment=alignment,
        coupling=Coupling(weight=coupling, start=coupling_start, interval=coupling_interval, lead=coupling_lead),
        seed=seed,
    )


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="autoencode, bridge, diffuse or align; in this order.")],
    folder: Annotated[Path, typer.Option(help="Model folder that grows with each stage.")],
    preset: Annotated[str, typer.Option(help="Sizes of a new model's parts: mini, tiny or official.")] = "mini",
    only: Annotated[str | None, typer.Option(metavar="TASK", help="Train one task of the stage.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of settings per task, where they differ.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="A folder or WebDataset shard (.tar) of samples: files of one name, such as dog.jpg, dog.txt, "
            "dog.wav. May be repeated. Left out: the procedural world of codi-mini.",
        ),
    ] = None,
) -> None:
    """Train a stage of a model; a run that was stopped goes on where it was."""
    from .training.command import train_command

    train_command(stage, folder, preset, only, config, data or ())


@app.command()
def evaluate(
    what: Annotated[
        str, typer.Argument(help="survival, retrieval, matrix, combinations, coherence, keep, sync, sim or mix.")
    ],
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="A bundled model or a folder.")] = "codi-mini",
    count: Annotated[int, typer.Option(help="Samples of each thing that is compared.")] = 64,
    rows: Annotated[int, typer.Option(help="How many samples are made at once.")] = 16,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 25,
    mode: Annotated[
        str,
        typer.Option(
            help="How prompts are mixed, in matrix and mix: complementary, linear, norm_preserving, slerp or composed."
        ),
    ] = "complementary",
    alignment: Annotated[
        str,
        typer.Option(help="Of outputs made together, in matrix, keep, sync and sim: paper, released, mutual or both."),
    ] = "paper",
    dtype: DType = None,
    seed: Annotated[int, typer.Option(min=0, help="Of facts and noise. The same one gives the same figures.")] = 0,
    output_dir: Annotated[Path, typer.Option(help="Folder for report and picture.")] = OUTPUT_DIR,
    as_json: AsJson = False,
) -> None:
    """Measure what a model of the procedural world can do; a run that was stopped goes on where it was."""
    from .evaluation.command import evaluate_command

    evaluate_command(
        what,
        model,
        dtype,
        alignment,
        output_dir,
        as_json=as_json,
        count=count,
        rows=rows,
        steps=steps,
        seed=seed,
        mode=mode,
    )


@app.command("convert")
def convert_checkpoints(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[SRC…] DEST", help="Official .pth files, then a folder; alone, it gets the vocabularies it lacks."
        ),
    ],
    dtype: Annotated[
        str | None, typer.Option(help="Number format of the weights: fp32, bf16 or fp16. Left out: as in the files.")
    ] = None,
    tokenizers: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the public vocabularies, instead of the hub.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model folder of official checkpoint files, or add their parts to one."""
    from .checkpoints.command import convert_command

    convert_command(files, dtype, tokenizers, as_json=as_json)


@app.command(name="download")
def download_model(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder for the files.")],
    repository: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="On the Hugging Face hub. Left out: the published weights.")
    ] = None,
    files: Annotated[
        str, typer.Option(metavar="PATTERN", help="Which files to take, such as checkpoints_fp16/*.")
    ] = "*",
    as_json: AsJson = False,
) -> None:
    """Fetch a model folder, or official checkpoint files, from the Hugging Face hub. What was begun goes on."""
    from .checkpoints.command import download_command

    download_command(repository, destination, files, as_json=as_json)


def main() -> None:
    """The console script. Errors that the user can mend end it with their message and exit code 1."""
    # What torch, diffusers and transformers make when they are imported stays. Searched for garbage after every 10,000
    # objects instead of 700, it is there half a second earlier.
    gc.set_threshold(10_000)
    try:
        app()
    except CoDiError as error:
        sys.exit(f"codi: {error}")
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(str(error.name).partition(".")[0])
        if extra is None:
            raise
        sys.exit(f"codi: wanted the package {error.name}, found none; pip install 'comfyui-codi[{extra}]'")
