// Shows what nodes made, and shows it again after the page was loaded anew. Pictures and videos need nothing of this to
// be shown; sound and text do.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addPanel, nodesOf, openGraph } from "./panels.js";
import { kindOf, nodeOfEvent, workflowOf } from "./runs.js";

/** Nodes that show a text. */
const TELLING = new Set(["DecodeText", "DownloadCoDi"]);
const SHOWING = new Set([...TELLING, "DecodeImage", "DecodeVideo", "DecodeAudio", "CompareSimilarity"]);

/** A read-only field for what a node tells. */
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
function keyOf(workflow, id) {
  return `codi.result.${workflow}.${id}`;
}

/** Also of other workflows than the open one, which are shown it when they are opened again. */
function keep({ prompt_id: run, display_node: shown, node, output }) {
  const id = shown ?? node;
  if (!SHOWING.has(kindOf(run, id))) return;
  try {
    sessionStorage.setItem(keyOf(workflowOf(run), id), JSON.stringify(output));
  } catch {
    // The store is full or forbidden; the result is shown all the same.
  }
}

/** The last result of a node, unless the server has thrown its files away. */
async function kept(workflow, id) {
  const output = JSON.parse(sessionStorage.getItem(keyOf(workflow, id)) ?? "null");
  const files = [...(output?.images ?? []), ...(output?.audio ?? [])];
  const found = await Promise.all(
    files.map(async (file) => (await api.fetchApi(`/view?${new URLSearchParams(file)}`, { method: "HEAD" })).ok),
  );
  return found.every(Boolean) ? output : null;
}

const fields = new WeakMap();

app.registerExtension({
  name: "CoDi.Previews",

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      // Nodes that show nothing tell of it, too.
      if (!detail.output) return;
      keep(detail);
      const field = fields.get(nodeOfEvent(detail));
      if (field) field.value = detail.output.text?.join("\n") ?? "";
    });
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === "DecodeAudio") nodeData.input.required.audioUI = ["AUDIO_UI", {}];
  },

  nodeCreated(node) {
    // Nodes 2.0 otherwise takes a video for a picture unless the node also has a video input.
    if (node.comfyClass === "DecodeVideo") node.previewMediaType = "video";
    if (TELLING.has(node.comfyClass)) fields.set(node, addTextField(node));
  },

  async afterConfigureGraph() {
    const workflow = openGraph().id;
    for (const [id, node] of nodesOf()) {
      if (!SHOWING.has(node.comfyClass)) continue;
      const output = await kept(workflow, id);
      // Another workflow may have been opened meanwhile.
      if (openGraph().id !== workflow) return;
      // As the server would tell of it; then the editor shows it in its own way, which differs from version to version.
      if (output) api.dispatchCustomEvent("executed", { node: id, display_node: id, output });
    }
  },
});
