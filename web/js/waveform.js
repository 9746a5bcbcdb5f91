// Draws on Decode Audio the waveform of what it made, under the player. A click on it goes to that moment.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addPanel, addStyle, element } from "./panels.js";
import { peaks } from "./peaks.js";
import { nodeOfEvent } from "./runs.js";

const HEIGHT = 48;
const COLUMNS = 400;
/** Sounds are drawn at this rate, which is that of the canvas's columns many times over. */
const SAMPLE_RATE_HZ = 16_000;

/** The sound of a file that a node showed. */
async function soundOf(file) {
  const answer = await api.fetchApi(`/view?${new URLSearchParams(file)}`);
  return new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ).decodeAudioData(await answer.arrayBuffer());
}

/** A panel with the waveform, and where in it the player is. */
class Waveform {
  constructor(node) {
    this.node = node;
    this.canvas = element("canvas", "codi-waveform", "", { width: COLUMNS, height: HEIGHT, role: "img" });
    this.columns = [];
    this.canvas.addEventListener("pointerdown", (event) => this.seek(event));
    addPanel(node, "codi_waveform", this.canvas, () => HEIGHT);
  }

  /** The editor's own player on this node, which Nodes 2.0 draws anew beside one that is never seen. */
  get player() {
    const drawn = this.canvas.closest("[data-node-id]")?.querySelector("audio");
    return drawn ?? this.node.widgets.find((widget) => widget.name === "audioUI")?.element;
  }

  async show(file) {
    const sound = await soundOf(file);
    this.columns = peaks(sound.getChannelData(0), COLUMNS);
    this.canvas.ariaLabel = `${sound.duration.toFixed(1)} s`;
    if (this.player) this.player.ontimeupdate = () => this.draw();
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const played = this.player?.duration > 0 ? this.player.currentTime / this.player.duration : 0;
    pen.clearRect(0, 0, COLUMNS, HEIGHT);
    this.columns.forEach(([low, high], column) => {
      pen.fillStyle = column < played * COLUMNS ? style.accentColor : style.color;
      const top = ((1 - high) * HEIGHT) / 2;
      pen.fillRect(column, top, 1, Math.max(1, ((high - low) * HEIGHT) / 2));
    });
  }

  seek({ offsetX }) {
    if (this.player?.duration > 0) this.player.currentTime = (offsetX / this.canvas.clientWidth) * this.player.duration;
  }
}

const panels = new WeakMap();

app.registerExtension({
  name: "CoDi.Waveform",

  setup() {
    addStyle();
    api.addEventListener("executed", ({ detail }) => {
      if (detail.output?.audio?.length) panels.get(nodeOfEvent(detail))?.show(detail.output.audio[0]);
    });
  },

  nodeCreated(node) {
    if (node.comfyClass === "DecodeAudio") panels.set(node, new Waveform(node));
  },
});
