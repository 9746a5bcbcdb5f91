"""What the nodes use of ComfyUI's `comfy_api.latest.io`, under the same names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar


class FolderType(StrEnum):
    output = "output"
    temp = "temp"


class UploadType(StrEnum):
    """Marks a Combo whose value is one of the user's files."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"


class Hidden(StrEnum):
    """Facts about the run that a schema may ask for."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass
class Input:
    """A socket. `io_type` is compared as text: several types are joined by commas, "*" accepts all."""

    io_type = "*"
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    extra_dict: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    def widget(self) -> WidgetInput | None:
        """What the user can fill in where no link is connected."""
        return None

    def sockets(self) -> list[Input]:
        """The inputs under the names that a prompt uses."""
        return [self]


@dataclass(kw_only=True)
class WidgetInput(Input):
    """A socket that is also a field on the node."""

    default: Any = None

    @property
    def widget(self) -> WidgetInput | None:
        return self


@dataclass(kw_only=True)
class StringInput(WidgetInput):
    multiline: bool = False
    placeholder: str | None = None


@dataclass(kw_only=True)
class NumberInput(WidgetInput):
    """A number from `min` to `max`, both included."""

    min: int | float | None = None
    max: int | float | None = None
    step: int | float | None = None
    control_after_generate: bool | None = None


@dataclass(kw_only=True)
class ComboInput(WidgetInput):
    """One of `options`, at first the first of them; with `upload` any of the user's files."""

    options: list[Any] = field(default_factory=list)
    upload: UploadType | None = None
    control_after_generate: bool | None = None

    def __post_init__(self) -> None:
        if self.default is None and self.options:
            self.default = self.options[0]


class MultiTypeInput(Input):
    """A socket for several types; given an input with a widget instead of a name, also that widget."""

    def __init__(self, id: str | Input, types: list[type[ComfyType]], **common: Any) -> None:
        own = id if isinstance(id, Input) else Input(id, **common)
        super().__init__(own.id, own.display_name, own.optional, own.tooltip, extra_dict=own.extra_dict)
        self._widget = own.widget
        typed = [own, *types] if isinstance(id, Input) else types
        self.io_type = ",".join(dict.fromkeys(each.io_type for each in typed))

    @property
    def widget(self) -> WidgetInput | None:
        return self._widget


@dataclass
class TemplatePrefix:
    """Sockets prefix0, prefix1, …: at most `max`, of which the first `min` must be connected."""

    input: Input
    prefix: str
    min: int = 1
    max: int = 10


@dataclass(kw_only=True)
class AutogrowInput(Input):
    """A row of sockets that grows while it is being connected; `execute` gets a dict of those that are."""

    template: TemplatePrefix

    def sockets(self) -> list[Input]:
        """Plain sockets, even where the template has a widget."""
        plain = Custom(self.template.input.io_type).Input
        return [
            plain(f"{self.id}.{self.template.prefix}{index}", optional=index >= self.template.min)
            for index in range(self.template.max)
        ]


@dataclass
class Output:
    io_type = "*"
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


class ComfyType:
    """A type of values on the wires; `.Input` and `.Output` make its sockets."""

    io_type: ClassVar[str] = "*"
    Input = Input
    Output = Output

    def __init_subclass__(cls) -> None:
        for name in ("Input", "Output"):
            setattr(cls, name, type(name, (getattr(cls, name),), {"io_type": cls.io_type}))


class Int(ComfyType):
    io_type = "INT"
    Input = NumberInput


class Float(ComfyType):
    io_type = "FLOAT"
    Input = NumberInput


class Boolean(ComfyType):
    io_type = "BOOLEAN"
    Input = WidgetInput


class String(ComfyType):
    io_type = "STRING"
    Input = StringInput


class Combo(ComfyType):
    io_type = "COMBO"
    Input = ComboInput


class MultiType:
    Input = MultiTypeInput


class Autogrow:
    TemplatePrefix = TemplatePrefix
    Input = AutogrowInput


def Custom(io_type: str) -> type[ComfyType]:  # noqa: N802 (the host's name)
    """The type that goes by this text everywhere."""
    return type(io_type, (ComfyType,), {"io_type": io_type})


AnyType = Custom("*")
Image = Custom("IMAGE")
Audio = Custom("AUDIO")
Video = Custom("VIDEO")
Model = Custom("MODEL")
Conditioning = Custom("CONDITIONING")
Latent = Custom("LATENT")
Noise = Custom("NOISE")


@dataclass
class Schema:
    """What a node is called, takes and gives."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False

    def sockets(self) -> dict[str, Input]:
        """Every input under its name in a prompt; required ones first, as the frontend arranges them."""
        ordered = sorted(self.inputs, key=lambda each: each.optional)
        return {socket.id: socket for each in ordered for socket in each.sockets()}


@dataclass(frozen=True)
class HiddenHolder:
    """The hidden facts of one run; what the schema did not ask for is None."""

    unique_id: str | None = None
    prompt: dict[str, Any] | None = None
    extra_pnginfo: dict[str, Any] | None = None


class ComfyNode:
    """Base of all nodes. Each run uses a new subclass that holds `hidden`; the class itself never changes."""

    hidden: ClassVar[HiddenHolder] = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} needs a define_schema")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802 (the host's name)
        schema = cls.define_schema()
        if schema.is_output_node:
            schema.hidden = list(dict.fromkeys([*schema.hidden, Hidden.prompt, Hidden.extra_pnginfo]))
        return schema


class NodeOutput:
    """What `execute` returns: one value per output, and what the node shows."""

    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args = args
        self.ui = ui

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]
