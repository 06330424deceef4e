// Sliders along directions of the latent space: those with names, and below them, folded away, those without.
import { fill, make } from "./dom.js";

/** How far a slider goes to either side, in standard deviations. */
export const REACH = 3;

/** "Paint: dark – light", or "Direction 3". */
export const titleOf = ({ name, low, high }, number) => (name ? `${name}: ${low} – ${high}` : `Direction ${number}`);

/** An amount in words: "1.0 σ towards light". */
export function amountInWords({ name, low, high }, value) {
  if (!value) return "as it is";
  const size = `${Math.abs(value).toFixed(1)} σ`;
  if (!name) return `${value > 0 ? "+" : "−"}${size}`;
  return `${size} towards ${value > 0 ? high : low}`;
}

export class Directions {
  #directions;
  #rows;
  #more;

  /** Fills `host`. `changed` is called while a slider moves, `settled` when it is let go, `unfolded` once. */
  constructor(host, directions, { changed, settled, unfolded }) {
    this.#directions = directions;
    let number = 0;
    this.#rows = directions.map((direction, i) => {
      if (!direction.name) number += 1;
      return makeRow(direction, i, number, changed, settled);
    });
    const named = this.#rows.filter((_, i) => directions[i].name);
    const others = this.#rows.filter((_, i) => !directions[i].name);
    if (!named.length) {
      host.append(...others.map(({ row }) => row));
      return;
    }
    host.append(...named.map(({ row }) => row));
    if (!others.length) return;
    this.#more = make("details", { className: "more", ontoggle: () => { if (this.isUnfolded) unfolded(); } },
      make("summary", {}, `${others.length} more, without names`),
      make("p", { className: "hint" }, "The directions in which cars differ most, strongest first."),
      make("div", { className: "directions" }, ...others.map(({ row }) => row)));
    host.append(this.#more);
  }

  /** Whether those without names are to be seen. */
  get isUnfolded() { return !this.#more || this.#more.open; }

  /** Whether a direction is to be seen. */
  isSeen(i) { return this.isUnfolded || Boolean(this.#directions[i].name); }

  get first() { return this.#rows.find((_, i) => this.isSeen(i))?.input; }

  get amounts() { return this.#rows.map(({ input }) => Number(input.value)); }

  set(values) {
    this.#rows.forEach(({ input }, i) => { input.value = values[i] || 0; });
    const isHidden = (i) => values[i] && !this.isSeen(i);
    if (this.#rows.some((_, i) => isHidden(i))) this.#more.open = true;
  }

  /** Say beside each slider where it is. */
  describe() {
    this.#rows.forEach(({ input, output }, i) => {
      const value = Number(input.value);
      fill(input, 0);
      output.textContent = value ? `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)} σ` : "";
      input.setAttribute("aria-valuetext", amountInWords(this.#directions[i], value));
    });
  }

  showEnds(i, low, high) {
    this.#rows[i].low.src = low;
    this.#rows[i].high.src = high;
  }
}

function makeRow(direction, i, number, changed, settled) {
  const low = make("img", { alt: "" });
  const high = make("img", { alt: "" });
  const output = make("span", { className: "value", "aria-hidden": "true" });
  const id = `direction-${i + 1}`;
  const input = make("input", {
    className: "slider", id, type: "range", min: -REACH, max: REACH, step: 0.1, value: 0, oninput: changed, onchange: settled,
  });
  const label = make("label", { htmlFor: id }, titleOf(direction, number));
  const middle = make("div", {}, make("span", {}, label, output), input);
  return { row: make("div", { className: "direction" }, low, middle, high), input, output, low, high };
}
