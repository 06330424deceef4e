// A car moved along the principal directions of the latent space.
import { addressFor, sayDamaged, writeAddress } from "../address.js";
import { carOf, drawFromText, drawToText, latentOf, newDraw } from "../cars.js";
import { Directions, REACH } from "../directions.js";
import { copy, latestOnly, partsOf, passFocus, pauses, say } from "../dom.js";
import { along } from "../latents.js";
import { Pad } from "../pad.js";
import { Picture } from "../picture.js";
import { requestView } from "../request.js";
import { columnsOf, pictures, urlOf } from "../strips.js";

const DEFAULT = "43-0";

export function editPanel(root, context) {
  const { directions, image_size: size, max_items: most } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "edit");
  const guarded = context.guardFor(parts.problem);
  const sliders = new Directions(parts.directions, directions, {
    changed: () => changed(loadAtRest),
    settled: () => settle(),
    unfolded: () => loadEnds(),
  });
  const pad = directions.filter(({ name }) => name).length < 2 ? null : new Pad(parts.pad, directions, size, {
    moved: (to) => {
      sliders.set(amounts().map((amount, i) => to[i] ?? amount));
      changed(loadAtRest);
    },
    settled: () => settle(),
    turned: () => { pad.describe(amounts()); loadPlane(); },
  });
  let car = null;
  let edited = null;
  let past = [];
  let settled = [];

  parts.two.hidden = pad === null;
  parts.none.hidden = directions.length > 0;

  const amounts = () => sliders.amounts;
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

  async function decoded(latents) {
    const images = [];
    for (let first = 0; first < latents.length; first += most) {
      const some = latents.slice(first, first + most);
      images.push(...(await pictures(decodeRequest(some), some.length, columnsOf(some.length), size)));
    }
    return images;
  }

  /** The car as it is, and where each direction that is to be seen leads from there, at both ends of its slider. */
  const loadEnds = latestOnly(guarded(async () => {
    const base = car;
    const latent = await latentOf(base);
    const seen = directions.map((_, i) => i).filter((i) => sliders.isSeen(i));
    const ends = seen.flatMap((i) => [-REACH, REACH].map((far) => along(latent, [directions[i]], [far])));
    const images = await decoded([latent, ...ends]);
    if (base !== car) return;
    base.image ??= urlOf(images[0]);
    parts.before.src = base.image;
    seen.forEach((i, row) => sliders.showEnds(i, urlOf(images[2 * row + 1]), urlOf(images[2 * row + 2])));
  }));

  /** Where both directions of the pad lead together. */
  const loadPlane = latestOnly(guarded(async () => {
    if (!pad) return;
    const base = car;
    const latent = await latentOf(base);
    const axes = pad.axes.map((i) => directions[i]);
    const images = await decoded(Pad.places().map((place) => along(latent, axes, place)));
    if (base === car) pad.show(images);
  }));

  function changed(reload = load) {
    sliders.describe();
    pad?.describe(amounts());
    enable();
    writeAddress("edit", state());
    return reload();
  }

  function enable() {
    const { first } = sliders;
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
    sliders.set(values);
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
    return Promise.all([changing, loadEnds(), loadPlane()]);
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
      const isSound = amounts.length <= directions.length && amounts.every((amount) => Math.abs(amount) <= REACH);
      if ((text !== undefined && !asked) || (by && !isSound)) sayDamaged();
      const draw = asked ?? (car ? null : drawFromText(DEFAULT));
      if (draw) await setCar(carOf(draw), asked ? amounts : []);
      else writeAddress("edit", state());
    }),
    /** Edit this car. */
    take: (next) => setCar(next),
  };
}
