// A car moved along the principal directions of the latent space.
import { addressFor, writeAddress } from "../address.js";
import { ask } from "../api.js";
import { drawCars, drawFromText, drawToText, newDraw } from "../cars.js";
import { copy, fill, latestOnly, make, partsOf, say } from "../dom.js";
import { along } from "../latents.js";
import { Picture, loadImage } from "../picture.js";
import { requestView } from "../request.js";

const REACH = 3;
const DEFAULT = "43-0";

export function editPanel(root, context) {
  const { directions } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "edit");
  const guarded = context.guarded(parts.problem);
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
    path: "decode",
    query: { format: "json" },
    json: { latents, model: context.model.id },
  });

  const load = latestOnly(guarded(async () => {
    const base = car;
    const latent = isMoved() ? along(base.latent, directions, amounts()) : base.latent;
    const request = decodeRequest([latent]);
    showRequest(request);
    const image = (await ask(request)).images[0];
    picture.show(await loadImage(image));
    if (base !== car) return;
    edited = latent === base.latent ? base : { latent, image, name: `${base.name}, edited`, draw: null };
  }));

  /** Where each direction leads from this car, at both ends of its slider. */
  const loadEnds = latestOnly(guarded(async () => {
    if (!directions.length) return;
    const ends = directions.flatMap((direction) => [-REACH, REACH].map((far) => along(car.latent, [direction], [far])));
    const images = [];
    for (let first = 0; first < ends.length; first += context.model.max_items) {
      images.push(...(await ask(decodeRequest(ends.slice(first, first + context.model.max_items)))).images);
    }
    sliders.forEach(({ low, high }, i) => {
      low.src = images[2 * i];
      high.src = images[2 * i + 1];
    });
  }));

  function directionRow(i) {
    const low = make("img", { alt: "" });
    const high = make("img", { alt: "" });
    const output = make("output");
    const input = make("input", {
      className: "slider", type: "range", min: -REACH, max: REACH, step: 0.1, value: 0,
      oninput: () => changed(),
      onchange: () => settle(),
    });
    const label = make("label", {}, make("span", {}, `Direction ${i + 1}`, output), input);
    return { row: make("div", { className: "direction" }, low, label, high), input, output, low, high };
  }

  function changed() {
    for (const { input, output } of sliders) {
      const value = Number(input.value);
      fill(input, 0);
      output.textContent = value ? `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)} σ` : "";
    }
    parts.undo.disabled = past.length === 0;
    parts.reset.disabled = !isMoved();
    writeAddress("edit", state());
    return load();
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
    parts.before.src = car.image;
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
    say("Kept, at the foot of the page.");
  });
  parts.compare.addEventListener("click", () => edited && context.interpolate([car, edited]));
  parts.another.addEventListener("click", guarded(async () => setCar((await drawCars([newDraw()]))[0])));
  parts.link.addEventListener("click", () => {
    if (car?.draw) copy(addressFor("edit", state()), "Link copied.");
    else say("A photograph or an edited car never goes into the address, so there is no link to it.");
  });

  return {
    show: guarded(async ({ car: text, by }) => {
      const draw = drawFromText(text ?? (car ? "" : DEFAULT));
      const before = car;
      const drawn = draw && (await drawCars([draw]))[0];
      if (car !== before) return; // another was chosen meanwhile
      if (drawn) await setCar(drawn, (by ?? "").split(",").map(Number));
      else writeAddress("edit", state());
    }),
    /** Edit this car. */
    take: (next) => setCar(next),
  };
}
