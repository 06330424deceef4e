// Two directions at once: a plane with a handle, over pictures of where it leads.
import { REACH, amountInWords, titleOf } from "./directions.js";
import { make } from "./dom.js";
import { penOf } from "./picture.js";

/** Pictures a side behind the handle. */
export const SIDE = 3;
const STEP = 0.1;
const LEAP = 1;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Pad {
  #directions;
  #axes;
  #plane;
  #handle;
  #canvas;
  #moved;

  /**
   * Fills `host`, for the directions with names. `moved({i: amount})` is called while the handle moves, `settled`
   * when it is let go, `turned` when another direction is chosen.
   */
  constructor(host, directions, size, { moved, settled, turned }) {
    this.#directions = directions;
    this.#moved = moved;
    const named = directions.map((_, i) => i).filter((i) => directions[i].name);
    const colours = named.filter((i) => directions[i].name === directions[named[0]].name);
    this.#axes = colours.length >= 3 ? colours.slice(1, 3) : named.slice(0, 2);
    const choice = (axis, label) => {
      const id = `pad-${label.toLowerCase()}`;
      const options = named.map((i) => make("option", { value: i, selected: i === this.#axes[axis] }, titleOf(directions[i])));
      const onchange = ({ target }) => this.#turn(axis, Number(target.value), turned);
      return make("div", { className: "field" }, make("label", { htmlFor: id }, label), make("select", { id, onchange }, ...options));
    };
    this.#canvas = make("canvas", { width: SIDE * size.width, height: SIDE * size.height, "aria-hidden": "true" });
    this.#handle = make("div", {
      className: "pad-handle", tabIndex: 0, role: "slider", "aria-roledescription": "two-dimensional slider",
      "aria-label": "Two at once", "aria-valuemin": -REACH, "aria-valuemax": REACH,
      onkeydown: (event) => this.#press(event, settled),
    });
    this.#plane = make("div", { className: "pad-plane" }, this.#canvas, this.#handle);
    this.#plane.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.#plane.setPointerCapture(event.pointerId);
      this.#handle.focus({ preventScroll: true });
      this.#follow(event);
    });
    this.#plane.addEventListener("pointermove", (event) => {
      if (this.#plane.hasPointerCapture(event.pointerId)) this.#follow(event);
    });
    this.#plane.addEventListener("lostpointercapture", settled);
    const hint = make("p", { className: "hint" }, "Drag the handle, or move it with the arrow keys; Shift makes larger steps, Home leads back.");
    host.append(this.#plane, make("div", { className: "row" }, choice(0, "Across"), choice(1, "Up")), hint);
  }

  /** The directions across and up, as their places in the list. */
  get axes() { return this.#axes; }

  /** Show the handle where all amounts say. */
  describe(amounts) {
    const [x, y] = this.#axes.map((i) => amounts[i]);
    this.#handle.style.left = `${50 + (50 * x) / REACH}%`;
    this.#handle.style.top = `${50 - (50 * y) / REACH}%`;
    this.#handle.setAttribute("aria-valuenow", x);
    const words = this.#axes.map((i) => `${titleOf(this.#directions[i])}, ${amountInWords(this.#directions[i], amounts[i])}`);
    this.#handle.setAttribute("aria-valuetext", words.join("; "));
  }

  /** The amounts across and up of each picture behind the handle, row by row. */
  static places() {
    const places = [];
    for (const y of [REACH, 0, -REACH]) for (const x of [-REACH, 0, REACH]) places.push([x, y]);
    return places;
  }

  /** Put canvases behind the handle, in the order of `places`. */
  show(images) {
    const pen = penOf(this.#canvas);
    images.forEach((image, i) => {
      pen.drawImage(image, (i % SIDE) * image.width, Math.floor(i / SIDE) * image.height);
    });
  }

  #turn(axis, chosen, turned) {
    const other = 1 - axis;
    if (this.#axes[other] === chosen) this.#axes[other] = this.#axes[axis];
    this.#axes[axis] = chosen;
    this.#plane.parentElement.querySelectorAll("select").forEach((select, i) => { select.value = this.#axes[i]; });
    turned();
  }

  #follow(event) {
    const { left, top, width, height } = this.#plane.getBoundingClientRect();
    this.#move(REACH * ((2 * (event.clientX - left)) / width - 1), REACH * (1 - (2 * (event.clientY - top)) / height));
  }

  #press(event, settled) {
    if (event.key !== "Home" && !KEYS[event.key]) return;
    event.preventDefault();
    if (event.key === "Home") this.#move(0, 0);
    else {
      const step = event.shiftKey ? LEAP : STEP;
      const [x, y] = this.#now();
      this.#move(x + step * KEYS[event.key][0], y + step * KEYS[event.key][1]);
    }
    settled();
  }

  #now() {
    return [this.#handle.style.left, this.#handle.style.top].map((text, i) => (i ? -1 : 1) * REACH * (Number.parseFloat(text) / 50 - 1));
  }

  #move(...to) {
    const rounded = to.map((value) => Number(Math.min(REACH, Math.max(-REACH, value)).toFixed(1)));
    this.#moved({ [this.#axes[0]]: rounded[0], [this.#axes[1]]: rounded[1] });
  }
}
