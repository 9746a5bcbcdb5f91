"""What the workflows hold: their nodes in framed steps, wires, and notes. `draw_workflows.py` lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from comfyui_codi.codi_core.checkpoints.download import OFFICIAL_REPOSITORY
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment

TEXT, IMAGE, VIDEO, AUDIO = Modality
ALWAYS, NEVER = 0, 2
"""LiteGraph's modes of a node."""


@dataclass(frozen=True)
class Node:
    """wires: per input the key of the node it comes from, and the number of its output. mode: ALWAYS or NEVER runs.
    models: files it wants, as ComfyUI's list of missing models takes them.
    """

    type: str
    title: str = ""
    widgets: dict[str, Any] = field(default_factory=dict)
    wires: dict[str, tuple[str, int]] = field(default_factory=dict)
    mode: int = ALWAYS
    models: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A framed step of the workflow: rows of nodes that stand beside one another, each under a key."""

    title: str
    rows: list[dict[str, Node]]


@dataclass(frozen=True)
class Template:
    """note: what it does and how, in Markdown."""

    note: str
    columns: list[Column]


def model(checkpoint: str = "codi-mini", alignment: Alignment = Alignment.BOTH) -> dict[str, Node]:
    widgets = {"checkpoint": checkpoint, "dtype": "auto", "alignment": str(alignment)}
    return {"model": Node("LoadCoDi", widgets=widgets)}


LOADERS = {
    IMAGE: Node("LoadImage", "Picture", {"image": "example_image.png"}),
    VIDEO: Node("LoadVideo", "Video", {"file": "example_video.mp4"}),
    AUDIO: Node("LoadAudio", "Sound", {"audio": "example_sound.flac"}),
}
KINDS = {TEXT: "Text", IMAGE: "Picture", VIDEO: "Video", AUDIO: "Sound"}


def encode(key: str, modality: Modality, words: str = "") -> dict[str, Node]:
    """A prompt: the words, or the file that stands under the modality's name."""
    wires = {"model": ("model", 0)}
    if modality is TEXT:
        return {key: Node("EncodeModality", "What to make", {"prompt": words}, wires)}
    return {key: Node("EncodeModality", f"{KINDS[modality]} prompt", {}, wires | {"prompt": (modality, 0)})}


def sampler(condition: str, outputs: Sequence[Modality], known: str | None = None, **widgets: Any) -> dict[str, Node]:
    wires = {"model": ("model", 0), "condition": (condition, 0)}
    if known is not None:
        wires["known"] = (known, 0)
    switches = {str(modality): modality in outputs for modality in Modality}
    return {"sampler": Node("JointSampler", "", switches | {"seed": 1} | widgets, wires)}


def results(outputs: Sequence[Modality], sound: tuple[str, int] | None = None) -> list[dict[str, Node]]:
    """Decoding and saving, row by row. sound: what videos are heard with, other than a sound that is made."""
    decoding: dict[str, Any] = {"model": ("model", 0), "latents": ("sampler", 0)}
    rows = []
    for modality in (TEXT, IMAGE, AUDIO, VIDEO):
        if modality not in outputs:
            continue
        decoder, wires = f"made {modality}", dict(decoding)
        if modality is VIDEO:
            heard = (f"made {AUDIO}", 0) if AUDIO in outputs else sound
            wires |= {"audio": heard} if heard is not None else {}
        row = {decoder: Node(f"Decode{modality.capitalize()}", "", {}, wires)}
        if modality is TEXT:
            row["shown"] = Node("PreviewAny", "Text", {}, {"source": (decoder, 0)})
        elif modality is IMAGE:
            row["saved image"] = Node("SaveImage", "", {}, {"images": (decoder, 0)})
        elif modality is VIDEO:
            row["saved video"] = Node("SaveVideo", "", {}, {"video": (decoder, 0)})
        elif set(outputs) != {VIDEO, AUDIO}:  # the sound of a film is in the film
            row["saved audio"] = Node("SaveAudio", "", {}, {"audio": (decoder, 0)})
        rows.append(row)
    return rows


def direction(
    note: str,
    inputs: Sequence[Modality],
    outputs: Sequence[Modality],
    words: str = "",
    weights: str = "",
    seed: int = 1,
) -> Template:
    """From prompts of some kinds to outputs of some kinds."""
    loaded = [{str(modality): LOADERS[modality]} for modality in inputs if modality is not TEXT]
    prompts = [encode(f"prompt {modality}", modality, words) for modality in inputs]
    condition, making = f"prompt {inputs[0]}", []
    if len(inputs) > 1:
        wires = {f"conditions.condition_{i}": (f"prompt {modality}", 0) for i, modality in enumerate(inputs)}
        # Prompts of different kinds tell different things, of which none should be lost.
        widgets = {"weights": weights, "mode": "complementary"}
        making.append({"mix": Node("InterpolateConditions", "Mix", widgets, wires)})
        condition = "mix"
    sound = (str(AUDIO), 0) if AUDIO in inputs else None
    return Template(
        note,
        [
            Column("1 Choose", [model(), *loaded]),
            Column("2 Encode", prompts),
            Column("3 Make", [*making, sampler(condition, outputs, seed=seed)]),
            Column("4 See and save", results(outputs, sound)),
        ],
    )


FILES = (
    "`example_image.png`, `example_sound.flac` and `example_video.mp4` lie in the pack's folder `workflows/inputs`; "
    "copy them into ComfyUI's `input` folder or choose your own files."
)
MEND = (
    "*Joint Sampler* chooses how: more **steps** are cleaner, more **guidance** follows the prompt more closely, "
    "another **seed** gives another take."
)
SAVED = "Results land in `output/codi`."


def note(title: str, what: str, *steps: str, files: bool = False) -> str:
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate([*steps, "Press **Run**."], start=1))
    return "\n\n".join([f"# {title}", what, numbered, *([FILES] if files else []), MEND, SAVED])


SAY = "Type what to make in *What to make*."
WEIGH = "**weights** in *Mix* say how much each of them counts: `1, 1` is half and half, `3, 1` favours the {}."
CHOOSE = "Choose a file in {} on the left."


def keeping(
    title: str, what: str, kept: Modality, outputs: Sequence[Modality], rows: list[dict[str, Node]]
) -> Template:
    """A file that is kept, and what is made for it. rows: how that is shown and saved."""
    kind = KINDS[kept]
    latents = Node("EncodeLatents", f"Keep the {kind.lower()}", {}, {"model": ("model", 0), "media": (kept, 0)})
    return Template(
        note(title, what, CHOOSE.format(f"*{kind}*"), files=True),
        [
            Column(f"1 Choose a {kind.lower()}", [model(), {str(kept): LOADERS[kept]}]),
            Column("2 Encode it", [encode("prompt", kept), {"latents": latents}]),
            Column("3 Make", [sampler("prompt", outputs, "latents")]),
            Column("4 See and save", rows),
        ],
    )


def film() -> list[dict[str, Node]]:
    """One's own frames with the sound that was made."""
    decoding: dict[str, Any] = {"model": ("model", 0), "latents": ("sampler", 0)}
    joined: dict[str, Any] = {"images": ("parts", 0), "fps": ("parts", 2), "audio": ("made", 0)}
    return [
        {"parts": Node("GetVideoComponents", "Your frames", {}, {"video": (str(VIDEO), 0)})},
        {"made": Node("DecodeAudio", "", {}, decoding)},
        {"film": Node("CreateVideo", "With the new sound", {}, joined)},
        {"saved": Node("SaveVideo", "", {}, {"video": ("film", 0)})},
    ]


def released() -> Template:
    """The published weights, and where they come from."""
    folder = "official"
    fetching = Node("DownloadCoDi", "1. Only if you have no weights yet", {"name": folder}, mode=NEVER)
    loading = replace(
        model(folder, Alignment.MUTUAL)["model"],
        models=({"name": folder, "url": f"https://huggingface.co/{OFFICIAL_REPOSITORY}", "directory": "codi"},),
    )
    return Template(
        note(
            "The released CoDi",
            "The weights that the paper's authors published: photographs and real sounds instead of codi-mini's "
            "figures. They are about 20 GB, and want a GPU. They hold no environment encoders, so outputs agree by "
            "the alignment `mutual`, in which each is a prompt for those that are made after it.",
            "No weights yet? Set *Download CoDi* to **Always** (right click → Mode), and run it once; or put the "
            "`.pth` files into the folder `models/codi/official` yourself. Then press R.",
            "Choose `official` in *Load CoDi*. Its first run converts the files, which takes minutes.",
            SAY,
        ),
        [
            Column("1 Choose", [{"model": loading}, {"fetched": fetching}]),
            Column("2 Encode", [encode("prompt", TEXT, "fireworks above a lake at night")]),
            Column("3 Make", [sampler("prompt", [IMAGE, AUDIO])]),
            Column("4 See and save", results([IMAGE, AUDIO])),
        ],
    )


def native() -> Template:
    """ComfyUI's own sampler instead of Joint Sampler."""
    outputs = [IMAGE, AUDIO]
    switches = {str(modality): modality in outputs for modality in Modality}
    prepared: dict[str, Any] = {"model": ("model", 0), "condition": ("prompt", 0)}
    sampled = {"model": ("native", 0), "positive": ("native", 1), "negative": ("native", 2)}
    settings = {"seed": 1, "steps": 25, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return Template(
        note(
            "With ComfyUI's own sampler",
            "*Native Model* makes CoDi one of ComfyUI's own models: KSampler denoises a picture and a sound together "
            "as one latent, with any of its samplers and schedulers. *SamplerCustomAdvanced*, guiders and masks work "
            "too.",
            SAY,
            "Choose sampler, scheduler and **cfg** in *KSampler*.",
        ).replace(f"{MEND}\n\n", ""),
        [
            Column("1 Choose", [model(alignment=Alignment.PAPER)]),
            Column("2 Encode", [encode("prompt", TEXT, "a large green star")]),
            Column("3 Prepare", [{"native": Node("NativeModel", "", switches, prepared)}]),
            Column(
                "4 Make",
                [
                    {"made": Node("KSampler", "", settings, sampled | {"latent_image": ("native", 3)})},
                    {"sampler": Node("LatentsFromNative", "", {}, {"latent": ("made", 0)})},
                ],
            ),
            Column("5 See and save", results(outputs)),
        ],
    )


def two_texts() -> Template:
    """One prompt that turns into another while the outputs are made."""
    first, second = encode("first", TEXT, "a blue square"), encode("second", TEXT, "a red star")
    first["first"], second["second"] = replace(first["first"], title="First"), replace(second["second"], title="Then")
    wires: dict[str, Any] = {"first": ("first", 0), "second": ("second", 0)}
    return Template(
        note(
            "One text fades into another",
            "The first steps follow one text and the last ones another: early steps decide on the whole, late ones on "
            "details.",
            "Type two texts.",
            "**start** and **end** in *Fade Conditions* say where on the way the first turns into the second.",
        ),
        [
            Column("1 Choose", [model()]),
            Column("2 Encode two texts", [first, second]),
            Column(
                "3 Fade and make",
                [
                    {"fade": Node("FadeConditions", "", {"start": 0.1, "end": 0.5}, wires)},
                    sampler("fade", [IMAGE, VIDEO]),
                ],
            ),
            Column("4 See and save", results([IMAGE, VIDEO])),
        ],
    )


def compared() -> Template:
    """Outputs of one run, and how near they are to the prompt and to one another."""
    shown: dict[str, Any] = {"model": ("model", 0)}
    things = [("prompt", 0), (f"made {IMAGE}", 0), (f"made {AUDIO}", 0)]
    shown |= {f"things.thing_{index}": thing for index, thing in enumerate(things)}
    decoding: dict[str, Any] = {"model": ("model", 0), "latents": ("sampler", 0)}
    return Template(
        note(
            "How near are they?",
            "A picture and a sound are made in one run, and *Compare Similarity* shows how near they lie to the prompt "
            "and to each other in the space that all prompts share. Switch *Load CoDi* to the alignment `released`, in "
            "which they don't see each other, and compare.",
            SAY,
        ),
        [
            Column("1 Choose", [model()]),
            Column("2 Encode", [encode("prompt", TEXT, "a star")]),
            Column("3 Make", [sampler("prompt", [IMAGE, AUDIO])]),
            Column(
                "4 See",
                [{f"made {each}": Node(f"Decode{each.capitalize()}", "", {}, decoding)} for each in (IMAGE, AUDIO)],
            ),
            Column("5 Compare", [{"compared": Node("CompareSimilarity", "", {}, shown)}]),
        ],
    )


def two_pictures() -> Template:
    """Two prompts of the same kind, with weights."""
    other = Node("LoadImage", "Other picture", {"image": "example_other_image.png"})
    prompts = {
        key: Node("EncodeModality", title, {}, {"model": ("model", 0), "prompt": (source, 0)})
        for key, title, source in (("first", "First", str(IMAGE)), ("second", "Second", "other"))
    }
    wires = {f"conditions.condition_{i}": (key, 0) for i, key in enumerate(prompts)}
    return Template(
        note(
            "Two pictures, mixed",
            "Two pictures share one space, and what lies between them can be made: a picture, and a video too.",
            "Choose two pictures.",
            WEIGH.format("first"),
            files=True,
        ).replace("`example_image.png`,", "`example_image.png`, `example_other_image.png`,"),
        [
            Column("1 Choose two pictures", [model(), {str(IMAGE): LOADERS[IMAGE]}, {"other": other}]),
            Column("2 Encode them", [{key: node} for key, node in prompts.items()]),
            Column(
                "3 Mix and make",
                [
                    {"mix": Node("InterpolateConditions", "Mix", {"weights": "1, 1"}, wires)},
                    sampler("mix", [IMAGE, VIDEO]),
                ],
            ),
            Column("4 See and save", results([IMAGE, VIDEO])),
        ],
    )


TEMPLATES = {
    "text_to_image": direction(
        note("Text to picture", "One sentence makes a picture.", SAY), [TEXT], [IMAGE], "a green star"
    ),
    "text_to_audio": direction(
        note("Text to sound", "One sentence makes a sound.", SAY),
        [TEXT],
        [AUDIO],
        "a blue square bounces",
    ),
    "text_to_video": direction(
        note("Text to video", "One sentence makes a silent video.", SAY),
        [TEXT],
        [VIDEO],
        "a yellow triangle moves to the right",
    ),
    "text_to_video_audio": direction(
        note(
            "Text to video with sound",
            "One sentence makes a video **and** its sound in the same run. The two see each other while they are made.",
            SAY,
        ),
        [TEXT],
        [VIDEO, AUDIO],
        "a red circle bounces",
    ),
    "text_to_image_text": direction(
        note(
            "Text to picture with its caption",
            "One sentence makes a picture and a sentence that describes it, in the same run. What the prompt leaves "
            "open they agree on.",
            SAY,
        ),
        [TEXT],
        [IMAGE, TEXT],
        "a star",
    ),
    "image_to_text": direction(
        note("Picture to text", "A picture is told in words.", CHOOSE.format("*Picture*"), files=True),
        [IMAGE],
        [TEXT],
    ),
    "image_to_audio": direction(
        note("Picture to sound", "A picture makes a sound.", CHOOSE.format("*Picture*"), files=True),
        [IMAGE],
        [AUDIO],
    ),
    "audio_to_text": direction(
        note("Sound to text", "A sound is told in words.", CHOOSE.format("*Sound*"), files=True),
        [AUDIO],
        [TEXT],
        seed=3,
    ),
    "audio_to_image": direction(
        note("Sound to picture", "A sound makes a picture.", CHOOSE.format("*Sound*"), files=True),
        [AUDIO],
        [IMAGE],
    ),
    "video_to_text": direction(
        note("Video to text", "A video is told in words.", CHOOSE.format("*Video*"), files=True),
        [VIDEO],
        [TEXT],
    ),
    "text_image_audio_to_image": direction(
        note(
            "Text, picture and sound to picture",
            "Three prompts of three kinds say together what the picture shows.",
            "Type a text, choose a picture and a sound.",
            "**weights** in *Mix* say how much each of them counts, in this order; 0 leaves one out.",
            files=True,
        ),
        [TEXT, IMAGE, AUDIO],
        [IMAGE],
        "a green star",
        "1, 1, 1",
    ),
    "image_audio_to_video_audio": direction(
        note(
            "Picture and sound to video with sound",
            "A picture and a sound together say what a new video shows and how it sounds.",
            "Choose a picture and a sound.",
            WEIGH.format("picture"),
            files=True,
        ),
        [IMAGE, AUDIO],
        [VIDEO, AUDIO],
        weights="1, 1",
    ),
    "image_audio_to_video": direction(
        note(
            "Picture and sound to video",
            "A picture and a sound together say what the video shows. Your sound becomes that of the video.",
            "Choose a picture and a sound.",
            WEIGH.format("picture"),
            files=True,
        ),
        [IMAGE, AUDIO],
        [VIDEO],
        weights="1, 1",
    ),
    "any_to_all": direction(
        note(
            "Anything to everything",
            "A text, a picture and a sound are mixed into one condition; from it a text, a picture, a video and a "
            "sound are made in one run, each aware of the others.",
            "Change any of the three prompts, or their **weights** in *Mix* (text, picture, sound).",
            "Switch off what you do not need in *Joint Sampler*, and remove its Decode node.",
            files=True,
        ),
        [TEXT, IMAGE, AUDIO],
        [TEXT, IMAGE, VIDEO, AUDIO],
        "a green star bounces",
        "1, 1, 1",
        seed=3,
    ),
    "two_images_mixed": two_pictures(),
    "two_texts_faded": two_texts(),
    "compare_similarity": compared(),
    "native_sampler": native(),
    "official_checkpoint": released(),
    "keep_video_make_sound": keeping(
        "A sound for your video",
        "The video is kept as it is, and a sound is made that fits it: *Encode to Latents* shows it to the sampler, "
        "which makes the sound only. The saved film has your own frames.",
        VIDEO,
        [AUDIO],
        film(),
    ),
    "keep_sound_make_pictures": keeping(
        "Pictures for your sound",
        "The sound is kept as it is, and a video of the same length and a picture are made that fit it. The saved film "
        "has your own sound.",
        AUDIO,
        [IMAGE, VIDEO],
        results([IMAGE, VIDEO], (str(AUDIO), 0)),
    ),
}
