// Which workflow a run is of: several can be open in tabs while one runs, and their nodes often have the same ids.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeOf, openGraph } from "./panels.js";

/** By a run's id that of its workflow, and the kinds of its nodes by theirs. */
const queued = new Map();

/** The id of the workflow that a run is of; where nobody knows, as after the page was loaded anew, of the open one. */
export function workflowOf(run) {
  return queued.get(run)?.workflow ?? openGraph().id;
}

/** What kind of node of a run an id is; undefined if it is neither known nor in the open workflow. */
export function kindOf(run, id) {
  return queued.get(run)?.kinds[id] ?? nodeOf(id)?.comfyClass;
}

/** The node of an event if it is in the open workflow. */
export function nodeOfEvent({ prompt_id: run, display_node: shown, node }) {
  return workflowOf(run) === openGraph().id ? nodeOf(shown ?? node) : undefined;
}

app.registerExtension({
  name: "CoDi.Runs",

  setup() {
    const queue = api.queuePrompt;
    api.queuePrompt = async function (number, prompt, ...given) {
      const answer = await queue.call(this, number, prompt, ...given);
      const kinds = Object.entries(prompt.output).map(([id, node]) => [id, node.class_type]);
      queued.set(answer.prompt_id, { workflow: prompt.workflow.id, kinds: Object.fromEntries(kinds) });
      return answer;
    };
  },
});
