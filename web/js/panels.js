// What the panels on nodes share. No side effects: ComfyUI imports every file of this folder.
import { app } from "../../../scripts/app.js";

/** The open workflow's graph, also while one of its subgraphs is looked at. */
export function openGraph() {
  return app.rootGraph ?? app.graph;
}

/** The node of an id, which is a path such as "9:5" for one in a subgraph; undefined if it isn't in the open graph. */
export function nodeOf(id) {
  return String(id)
    .split(":")
    .reduce((found, part) => (found?.subgraph ?? found)?.getNodeById?.(part), openGraph());
}

/** Every node of the open graph and of its subgraphs, as [id, node]. */
export function* nodesOf(graph = openGraph(), path = "") {
  for (const node of graph.nodes) {
    yield [`${path}${node.id}`, node];
    if (node.subgraph) yield* nodesOf(node.subgraph, `${path}${node.id}:`);
  }
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
