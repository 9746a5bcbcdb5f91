// Shows on a Joint Sampler how far each output is and what it is becoming, while the sampler runs.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addPanel, addStyle, element, nameOf } from "./panels.js";
import { nodeOfEvent } from "./runs.js";

const FRAME_MS = 125;
const HEIGHT = 190;

/** One output: its name, how far it is, and its latest draft. */
class Output {
  constructor(name) {
    this.name = element("span", "codi-name", name);
    this.bar = element("progress", "codi-bar", "", { max: 1, "aria-label": name });
    this.picture = element("img", "codi-draft", "", { alt: name, hidden: "" });
    this.text = element("p", "codi-draft");
    this.shown = element("div", "codi-output");
    this.shown.append(this.name, this.bar, this.picture, this.text);
    this.pictures = [];
  }

  update({ share, pictures, text }) {
    // What is kept has nothing to wait for.
    this.bar.hidden = share === null;
    this.bar.value = share ?? 1;
    if (text !== undefined) this.text.textContent = text;
    if (pictures === undefined) return;
    this.pictures = pictures;
    this.picture.hidden = false;
    this.turn(0);
  }

  /** Show a frame; they begin again after the last one. */
  turn(frame) {
    if (this.pictures.length) this.picture.src = this.pictures[frame % this.pictures.length];
  }
}

/** Those that show something. */
const drafting = new Set();

/** All the outputs of a run. */
class Progress {
  constructor(node) {
    this.node = node;
    this.shown = element("div", "codi-outputs", "", { "aria-live": "off" });
    this.outputs = {};
    addPanel(node, "codi_progress", this.shown, () => HEIGHT);
    const previous = node.onRemoved;
    node.onRemoved = (...given) => {
      this.clear();
      previous?.apply(node, given);
    };
  }

  update(modalities) {
    drafting.add(this);
    for (const [modality, news] of Object.entries(modalities)) {
      if (!(modality in this.outputs)) {
        this.outputs[modality] = new Output(nameOf(this.node, modality));
        this.shown.append(this.outputs[modality].shown);
      }
      this.outputs[modality].update(news);
    }
    this.timer ??= setInterval(() => this.turn(), FRAME_MS);
  }

  turn() {
    this.frame = (this.frame ?? 0) + 1;
    for (const output of Object.values(this.outputs)) output.turn(this.frame);
  }

  clear() {
    drafting.delete(this);
    clearInterval(this.timer);
    this.timer = undefined;
    this.outputs = {};
    this.shown.replaceChildren();
  }
}

const panels = new WeakMap();

app.registerExtension({
  name: "CoDi.Progress",

  setup() {
    addStyle();
    api.addEventListener("codi.progress", ({ detail }) => panels.get(nodeOfEvent(detail))?.update(detail.modalities));
    // However a run ends, no draft stays.
    for (const end of ["execution_start", "execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(end, () => {
        for (const progress of drafting) progress.clear();
      });
  },

  nodeCreated(node) {
    if (node.comfyClass === "JointSampler") panels.set(node, new Progress(node));
  },
});
