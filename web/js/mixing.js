// Shows the weights of Interpolate Conditions as bars, and three of them as a point in a triangle, to be dragged or
// moved by arrow keys. The field "weights" keeps what is saved.
import { app } from "../../../scripts/app.js";
import { addPanel, addStyle, element, fitted } from "./panels.js";
import { parsed, pointOf, sharesAt, sharesOf, TRIANGLE, withShare, written } from "./weights.js";

const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.05;
const ROW_HEIGHT = 24;
const TRIANGLE_HEIGHT = 118;
const SCALE = 100;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class Mixing {
  constructor(node) {
    this.node = node;
    this.field = node.widgets.find((widget) => widget.name === "weights");
    this.shown = element("div", "codi-mix");
    addPanel(node, "codi_mixing", this.shown, () => this.height());
    for (const [owner, happening] of [
      [this.field, "callback"],
      [node, "onConnectionsChange"],
      [node, "onConfigure"],
    ]) {
      const previous = owner[happening];
      owner[happening] = (...given) => {
        const result = previous?.apply(owner, given);
        // The editor adds and removes sockets after it has told of a wire.
        setTimeout(() => this.update());
        return result;
      };
    }
  }

  /** The names of what is mixed: the titles of the nodes that are connected. */
  names() {
    const sockets = this.node.inputs ?? [];
    return sockets
      .map((socket, index) => [socket.name, index])
      .filter(([name, index]) => name.startsWith("conditions.") && this.node.isInputConnected(index))
      .map(([name, index]) => this.node.getInputNode(index)?.title ?? name);
  }

  height() {
    return this.rows?.length ? this.rows.length * ROW_HEIGHT + (this.point ? TRIANGLE_HEIGHT : 0) : 0;
  }

  update() {
    const names = this.names();
    if (names.join("\n") !== this.drawn) this.draw(names);
    const weights = parsed(String(this.field.value ?? ""), names.length);
    const shares = weights && sharesOf(weights);
    this.shown.toggleAttribute("data-wrong", !shares);
    this.shown.title = shares ? "" : (this.field.tooltip ?? "");
    this.shares = shares ?? names.map(() => 1 / names.length);
    this.rows.forEach((row, index) => row.set(this.shares[index]));
    if (!this.point) return;
    const [x, y] = pointOf(this.shares);
    this.point.setAttribute("cx", x * SCALE);
    this.point.setAttribute("cy", y * SCALE);
  }

  draw(names) {
    this.drawn = names.join("\n");
    this.point = undefined;
    this.shown.replaceChildren();
    if (names.length === TRIANGLE.length) this.shown.append(this.triangle(names));
    this.rows = names.map((name, index) => this.row(name, index));
    fitted(this.node);
  }

  row(name, index) {
    const slider = element("div", "codi-slider", "", {
      role: "slider",
      tabindex: 0,
      "aria-label": name,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    });
    const percent = element("span", "");
    const row = element("div", "codi-weight");
    row.append(element("span", "", name, { title: name }), slider, percent);
    this.shown.append(row);
    this.dragged(slider, ([x]) => withShare(this.shares, index, x));
    this.moved(slider, ([x, y]) => withShare(this.shares, index, this.shares[index] + (x - y) * STEP));
    return {
      set(share) {
        const whole = Math.round(share * 100);
        slider.style.setProperty("--share", `${whole}%`);
        slider.setAttribute("aria-valuenow", whole);
        percent.textContent = `${whole} %`;
      },
    };
  }

  triangle(names) {
    const drawing = document.createElementNS(SVG, "svg");
    const [left, top, width, height] = [-15, -12, 130, 110];
    drawing.setAttribute("viewBox", `${left} ${top} ${width} ${height}`);
    drawing.setAttribute("class", "codi-triangle");
    drawing.setAttribute("tabindex", 0);
    drawing.setAttribute("role", "application");
    drawing.setAttribute("aria-label", names.join(", "));
    const outline = document.createElementNS(SVG, "polygon");
    outline.setAttribute("points", TRIANGLE.map(([x, y]) => `${x * SCALE},${y * SCALE}`).join(" "));
    this.point = document.createElementNS(SVG, "circle");
    this.point.setAttribute("r", 4);
    const labels = TRIANGLE.map(([x, y], index) => {
      const label = document.createElementNS(SVG, "text");
      label.setAttribute("x", x * SCALE);
      label.setAttribute("y", y * SCALE + (index ? 10 : -4));
      label.setAttribute("text-anchor", "middle");
      label.textContent = index + 1;
      return label;
    });
    drawing.append(outline, ...labels, this.point);
    this.dragged(drawing, (place, box) => {
      // The drawing keeps its proportions within its box, in the middle.
      const unit = Math.min(box.width / width, box.height / height);
      const across = (place[0] * box.width - box.width / 2) / unit + width / 2 + left;
      const down = (place[1] * box.height - box.height / 2) / unit + height / 2 + top;
      return sharesAt([across / SCALE, down / SCALE]);
    });
    this.moved(drawing, ([x, y]) => {
      const [across, down] = pointOf(this.shares);
      return sharesAt([across + x * STEP, down + y * STEP]);
    });
    return drawing;
  }

  /** While a button is down on something: the shares at the pointer's place, given in parts of its box. */
  dragged(target, sharesOfPlace) {
    const follow = (event) => {
      if (!target.hasPointerCapture(event.pointerId)) return;
      const box = target.getBoundingClientRect();
      const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      this.choose(sharesOfPlace(place, box));
    };
    target.addEventListener("pointerdown", (event) => {
      target.setPointerCapture(event.pointerId);
      // The editor would drag the node.
      event.stopPropagation();
      follow(event);
    });
    target.addEventListener("pointermove", follow);
  }

  /** When an arrow key is pressed on something: the shares one step further. */
  moved(target, sharesOfStep) {
    target.addEventListener("keydown", (event) => {
      const step = KEYS[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.choose(sharesOfStep(step));
    });
  }

  choose(shares) {
    this.field.value = written(shares);
    this.field.callback?.(this.field.value);
    this.update();
    this.node.setDirtyCanvas?.(true, true);
  }
}

app.registerExtension({
  name: "CoDi.Mixing",

  setup: addStyle,

  nodeCreated(node) {
    if (node.comfyClass === "InterpolateConditions") new Mixing(node).update();
  },
});
