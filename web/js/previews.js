// Shows what the Decode nodes made. Pictures and videos need nothing of this; sound and text do.
import { app } from "../../../scripts/app.js";

/** A read-only field that is neither saved with the workflow nor sent to the server. */
function addTextField(node) {
  const field = document.createElement("textarea");
  field.readOnly = true;
  field.className = "comfy-multiline-input";
  field.style.width = "100%";
  field.style.minHeight = "60px";
  const widget = node.addDOMWidget("codi_text", "codi_text", field, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => 60,
  });
  widget.serialize = false;
  node.setSize([Math.max(node.size[0], 240), node.computeSize()[1]]);

  const previous = node.onExecuted;
  node.onExecuted = function (output) {
    previous?.apply(this, arguments);
    field.value = output.text?.join("\n") ?? "";
  };
}

app.registerExtension({
  name: "CoDi.Previews",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === "DecodeAudio") nodeData.input.required.audioUI = ["AUDIO_UI", {}];
  },

  nodeCreated(node) {
    if (node.comfyClass === "DecodeText") addTextField(node);
    // Nodes 2.0 otherwise takes a video for a picture unless the node also has a video input.
    if (node.comfyClass === "DecodeVideo") node.previewMediaType = "video";
  },
});
