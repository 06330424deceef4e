// A car moved along the principal directions of the latent space.
import { addressFor, sayDamaged, writeAddress } from "../address.js";
import { carOf, drawFromText, drawToText, latentOf, newDraw } from "../cars.js";
import { copy, fill, latestOnly, make, partsOf, passFocus, pauses, say } from "../dom.js";
import { along } from "../latents.js";
import { Picture } from "../picture.js";
import { requestView } from "../request.js";
import { columnsOf, pictures, urlOf } from "../strips.js";

const REACH = 3;
const DEFAULT = "43-0";

export function editPanel(root, context) {
  const { directions, image_size: size, max_items: most } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "edit");
  const guarded = context.guardFor(parts.problem);
  const sliders = directions.map((_, i) => directionRow(i));
  let car = null;
  let edited = null;
  let past = [];
  let settled = [];

  parts.directions.append(...sliders.map(({ row }) => row));
  parts.none.hidden = directions.length > 0;

  const amounts = () => sliders.map(({ input }) => Number(input.value));
  const isMoved = () => amounts().some(Boolean);
  const state = () => ({
    car: car?.draw ? drawToText(car.draw) : undefined,
    by: car?.draw && isMoved() ? amounts().join(",") : undefined,
  });

  const decodeRequest = (latents) => ({
    method: "POST",
    path: "decode.webp",
    json: { latents, model: context.model.id },
  });

  const load = latestOnly(guarded(async () => {
    const base = car;
    const start = await latentOf(base);
    const latent = isMoved() ? along(start, directions, amounts()) : start;
    const request = decodeRequest([latent]);
    showRequest(request);
    const [canvas] = await pictures(request, 1, 1, size);
    if (base !== car) return;
    picture.show(canvas);
    if (latent === start) base.image ??= urlOf(canvas);
    edited = latent === start ? base : { latent, image: urlOf(canvas), name: `${base.name}, edited`, draw: null };
  }));
  const paused = pauses();
  const loadAtRest = guarded(async () => { if (await paused()) await load(); });

  /** The car as it is, and where each direction leads from there, at both ends of its slider. */
  const loadEnds = latestOnly(guarded(async () => {
    const base = car;
    const latent = await latentOf(base);
    const ends = directions.flatMap((direction) => [-REACH, REACH].map((far) => along(latent, [direction], [far])));
    const all = [latent, ...ends];
    const images = [];
    for (let first = 0; first < all.length; first += most) {
      const some = all.slice(first, first + most);
      images.push(...(await pictures(decodeRequest(some), some.length, columnsOf(some.length), size)));
    }
    if (base !== car) return;
    base.image ??= urlOf(images[0]);
    parts.before.src = base.image;
    sliders.forEach(({ low, high }, i) => {
      low.src = urlOf(images[2 * i + 1]);
      high.src = urlOf(images[2 * i + 2]);
    });
  }));

  function directionRow(i) {
    const low = make("img", { alt: "" });
    const high = make("img", { alt: "" });
    const output = make("span", { className: "value", "aria-hidden": "true" });
    const id = `direction-${i + 1}`;
    const input = make("input", {
      className: "slider", id, type: "range", min: -REACH, max: REACH, step: 0.1, value: 0,
      oninput: () => changed(loadAtRest),
      onchange: () => settle(),
    });
    const label = make("label", { htmlFor: id }, `Direction ${i + 1}`);
    const middle = make("div", {}, make("span", {}, label, output), input);
    return { row: make("div", { className: "direction" }, low, middle, high), input, output, low, high };
  }

  function changed(reload = load) {
    for (const { input, output } of sliders) {
      const value = Number(input.value);
      fill(input, 0);
      output.textContent = value ? `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)} σ` : "";
      input.setAttribute("aria-valuetext", output.textContent || "0");
    }
    enable();
    writeAddress("edit", state());
    return reload();
  }

  function enable() {
    const first = sliders[0]?.input;
    if (!past.length) passFocus(parts.undo, isMoved() ? parts.reset : first);
    parts.undo.disabled = past.length === 0;
    if (!isMoved()) passFocus(parts.reset, parts.undo, first);
    parts.reset.disabled = !isMoved();
  }

  function settle() {
    if (String(settled) === String(amounts())) return;
    past.push(settled);
    settled = amounts();
    parts.undo.disabled = false;
  }

  function setAmounts(values) {
    sliders.forEach(({ input }, i) => { input.value = values[i] || 0; });
    return changed();
  }

  function setCar(next, values = []) {
    car = next;
    edited = null;
    if (car.image) parts.before.src = car.image;
    else parts.before.removeAttribute("src");
    past = [];
    const changing = setAmounts(values);
    settled = amounts();
    return Promise.all([changing, loadEnds()]);
  }

  parts.undo.addEventListener("click", () => {
    settled = past.pop();
    setAmounts(settled);
  });
  parts.reset.addEventListener("click", () => {
    past.push(amounts());
    settled = amounts().map(() => 0);
    setAmounts(settled);
  });
  parts.keep.addEventListener("click", () => {
    if (!edited) return;
    context.garage.add(edited);
  });
  parts.compare.addEventListener("click", () => {
    if (edited) context.interpolate([car, edited]);
  });
  parts.another.addEventListener("click", () => setCar(carOf(newDraw())));
  parts.link.addEventListener("click", () => {
    if (car?.draw) copy(addressFor("edit", state()), "Link copied.");
    else say("A photograph or an edited car never goes into the address, so there is no link to it.");
  });

  return {
    show: guarded(async ({ car: text, by }) => {
      const asked = text === undefined ? null : drawFromText(text);
      const amounts = (by ?? "").split(",").map(Number);
      const isSound = amounts.length <= sliders.length && amounts.every((amount) => Math.abs(amount) <= REACH);
      if ((text !== undefined && !asked) || (by && !isSound)) sayDamaged();
      const draw = asked ?? (car ? null : drawFromText(DEFAULT));
      if (draw) await setCar(carOf(draw), asked ? amounts : []);
      else writeAddress("edit", state());
    }),
    /** Edit this car. */
    take: (next) => setCar(next),
  };
}
