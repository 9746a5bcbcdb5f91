// What the panels on nodes share. No side effects: ComfyUI imports every file of this folder.
import { app } from "../../../scripts/app.js";

/** The node of an id, which is a path such as "9:5" for one in a subgraph; undefined if it isn't in the open graph. */
export function nodeOf(id) {
  return String(id)
    .split(":")
    .reduce((found, part) => (found?.subgraph ?? found)?.getNodeById?.(part), app.rootGraph ?? app.graph);
}

/** A new element with a class, a text and attributes. */
export function element(tag, className, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Put an element below a node's fields. It is neither saved with the workflow nor sent to the server. */
export function addPanel(node, name, shown, getMinHeight) {
  const widget = node.addDOMWidget(name, name, shown, { serialize: false, hideOnZoom: false, getMinHeight });
  widget.serialize = false;
  fitted(node);
}

/** Make a node as large as its fields and panels need; never smaller. */
export function fitted(node) {
  const needed = node.computeSize();
  node.setSize([Math.max(node.size[0], needed[0]), Math.max(node.size[1], needed[1])]);
}

/** The name that the user reads on a node's input or field. */
export function nameOf(node, name) {
  const found = [...(node.widgets ?? []), ...(node.inputs ?? [])].find((each) => each.name === name);
  return found?.label ?? found?.localized_name ?? name;
}

/** Load the panels' style sheet once. */
export function addStyle() {
  if (document.querySelector("link[data-codi]")) return;
  const link = element("link", "", "", { rel: "stylesheet", "data-codi": "" });
  link.href = new URL("../codi.css", import.meta.url).href;
  document.head.append(link);
}
