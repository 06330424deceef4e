// A box that is dragged over a picture, by its body or its corners, or moved with the arrow keys.
import { make } from "./dom.js";
import { penOf } from "./picture.js";

const CORNERS = ["nw", "ne", "sw", "se"];
const LEAST = 0.08;
const STEP = 0.02;
const DRAWN = 1200;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Crop {
  #host;
  #changed;
  #source = null;
  #shape = null;
  #sheet;
  #canvas = make("canvas", { "aria-hidden": "true" });
  #box;
  /** Left, top, right and bottom as shares of the picture. */
  #edges = { left: 0, top: 0, right: 1, bottom: 1 };

  /** `changed` is called whenever the box has another place or size. */
  constructor(host, changed) {
    this.#host = host;
    this.#changed = changed;
    this.#box = make(
      "div",
      { className: "box", tabIndex: 0, role: "group", onkeydown: (event) => this.#onKey(event) },
      ...CORNERS.map((corner) => {
        const handle = make("span", { className: "handle" });
        handle.dataset.corner = corner;
        return handle;
      }),
    );
    this.#box.addEventListener("pointerdown", (event) => this.#onPointer(event));
    this.#sheet = make("div", { className: "sheet-of-crop" }, this.#canvas, this.#box);
  }

  /** Show a picture, all of it inside the box. It may stand for a larger one of the same shape. */
  load(source, shape = source) {
    this.#source = source;
    this.#shape = shape;
    const scale = Math.min(1, DRAWN / Math.max(source.width, source.height));
    this.#canvas.width = Math.max(1, Math.round(source.width * scale));
    this.#canvas.height = Math.max(1, Math.round(source.height * scale));
    penOf(this.#canvas).drawImage(source, 0, 0, this.#canvas.width, this.#canvas.height);
    this.#host.replaceChildren(this.#sheet);
    const wider = source.width / source.height / (this.#host.clientWidth / this.#host.clientHeight);
    this.#sheet.style.width = `${100 * Math.min(1, wider)}%`;
    this.#sheet.style.height = `${100 * Math.min(1, 1 / wider)}%`;
    this.#set({ left: 0, top: 0, right: 1, bottom: 1 });
  }

  /** Take the whole picture. */
  whole() {
    this.#set({ left: 0, top: 0, right: 1, bottom: 1 });
  }

  /** Take the largest box of the shape `ratio` (width / height), in the middle. */
  fit(ratio) {
    const shape = ratio / (this.#source.width / this.#source.height);
    const [width, height] = shape < 1 ? [shape, 1] : [1, 1 / shape];
    this.#set({ left: (1 - width) / 2, top: (1 - height) / 2, right: (1 + width) / 2, bottom: (1 + height) / 2 });
  }

  /** The box in pixels of what the picture stands for. */
  get area() {
    return this.#areaIn(this.#shape);
  }

  /** The box in pixels of the picture that was given. */
  get sourceArea() {
    return this.#areaIn(this.#source);
  }

  #areaIn({ width, height }) {
    const { left, top, right, bottom } = this.#edges;
    const x = Math.round(left * width);
    const y = Math.round(top * height);
    return {
      x, y, width: Math.max(1, Math.round(right * width) - x), height: Math.max(1, Math.round(bottom * height) - y),
    };
  }

  #set(edges) {
    this.#edges = edges;
    const { left, top, right, bottom } = edges;
    Object.assign(this.#box.style, {
      left: `${100 * left}%`,
      top: `${100 * top}%`,
      width: `${100 * (right - left)}%`,
      height: `${100 * (bottom - top)}%`,
    });
    const { x, y, width, height } = this.area;
    this.#box.setAttribute(
      "aria-label",
      `Crop box, ${width} by ${height} pixels from ${x}, ${y}. Arrow keys move it, with Shift they resize it.`,
    );
    this.#changed();
  }

  #move(from, across, down) {
    const width = from.right - from.left;
    const height = from.bottom - from.top;
    const left = clamp(from.left + across, 0, 1 - width);
    const top = clamp(from.top + down, 0, 1 - height);
    this.#set({ left, top, right: left + width, bottom: top + height });
  }

  #resize(from, corner, across, down) {
    const edges = { ...from };
    if (corner.includes("w")) edges.left = clamp(from.left + across, 0, from.right - LEAST);
    else edges.right = clamp(from.right + across, from.left + LEAST, 1);
    if (corner.includes("n")) edges.top = clamp(from.top + down, 0, from.bottom - LEAST);
    else edges.bottom = clamp(from.bottom + down, from.top + LEAST, 1);
    this.#set(edges);
  }

  #onPointer(event) {
    if (event.button !== 0) return;
    const from = this.#edges;
    const { corner } = event.target.dataset;
    const { width, height } = this.#sheet.getBoundingClientRect();
    const onMove = (move) => {
      const across = (move.clientX - event.clientX) / width;
      const down = (move.clientY - event.clientY) / height;
      if (corner) this.#resize(from, corner, across, down);
      else this.#move(from, across, down);
    };
    const ending = new AbortController();
    const end = () => ending.abort();
    this.#box.setPointerCapture(event.pointerId);
    this.#box.addEventListener("pointermove", onMove, { signal: ending.signal });
    this.#box.addEventListener("pointerup", end, { signal: ending.signal });
    this.#box.addEventListener("pointercancel", end, { signal: ending.signal });
  }

  #onKey(event) {
    const step = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.shiftKey) this.#resize(this.#edges, "se", ...step);
    else this.#move(this.#edges, ...step);
  }
}
