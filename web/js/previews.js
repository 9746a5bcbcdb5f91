// Shows what nodes made, and shows it again after the page was loaded anew. Pictures and videos need nothing of this to
// be shown; sound and text do.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addPanel } from "./panels.js";

const SHOWING = new Set(["DecodeImage", "DecodeVideo", "DecodeAudio", "DecodeText", "CompareSimilarity"]);

/** A read-only field for what Decode Text made. */
function addTextField(node) {
  const field = document.createElement("textarea");
  field.readOnly = true;
  field.className = "comfy-multiline-input";
  field.style.width = "100%";
  field.style.minHeight = "60px";
  addPanel(node, "codi_text", field, () => 60);
  node.setSize([Math.max(node.size[0], 240), node.size[1]]);
  return field;
}

/**
 * Where the browser keeps a node's last result as long as its tab is open. Not in the workflow: results are no part of
 * it.
 */
function keyOf(node) {
  return `codi.result.${app.graph.id}.${node.id}`;
}

function keep(node, output) {
  try {
    sessionStorage.setItem(keyOf(node), JSON.stringify(output));
  } catch {
    // The store is full or forbidden; the result is shown all the same.
  }
}

/** The last result of a node, unless the server has thrown its files away. */
async function kept(node) {
  const output = JSON.parse(sessionStorage.getItem(keyOf(node)) ?? "null");
  const files = [...(output?.images ?? []), ...(output?.audio ?? [])];
  const found = await Promise.all(
    files.map(async (file) => (await api.fetchApi(`/view?${new URLSearchParams(file)}`, { method: "HEAD" })).ok),
  );
  return found.every(Boolean) ? output : null;
}

app.registerExtension({
  name: "CoDi.Previews",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === "DecodeAudio") nodeData.input.required.audioUI = ["AUDIO_UI", {}];
  },

  nodeCreated(node) {
    if (!SHOWING.has(node.comfyClass)) return;
    // Nodes 2.0 otherwise takes a video for a picture unless the node also has a video input.
    if (node.comfyClass === "DecodeVideo") node.previewMediaType = "video";
    const field = node.comfyClass === "DecodeText" ? addTextField(node) : undefined;
    const previous = node.onExecuted;
    node.onExecuted = function (output) {
      previous?.apply(this, arguments);
      if (field) field.value = output.text?.join("\n") ?? "";
      keep(node, output);
    };
  },

  async afterConfigureGraph() {
    for (const node of app.graph.nodes.filter((each) => SHOWING.has(each.comfyClass))) {
      const output = await kept(node);
      // As the server would tell of it; then the editor shows it in its own way, which differs from version to version.
      if (output) api.dispatchCustomEvent("executed", { node: node.id, display_node: node.id, output });
    }
  },
});
