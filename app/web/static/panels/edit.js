// A car moved along the principal directions of the latent space.
import { sayDamaged, writeAddress } from "../address.js";
import { carFromText, carOf, carOfKept, carOfLatent, carToText, codeOf, keptOf, latentOf, newDraw, pictureRequest, shared } from "../cars.js";
import { Directions, REACH } from "../directions.js";
import { latestOnly, partsOf, passFocus, pauses } from "../dom.js";
import { fileOf, onChosen } from "../files.js";
import { along } from "../latents.js";
import { Pad } from "../pad.js";
import { carReader, readFiles } from "../photographs.js";
import { Picture, SAVED_EDGE } from "../picture.js";
import { requestView } from "../request.js";
import { waysOut } from "../sharing.js";
import { columnsOf, pictures, urlOf } from "../strips.js";

const DEFAULT = "43-0";

export function editPanel(root, context) {
  const { directions, image_size: size, latent_dim: numbers, max_items: most } = context.model;
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
  const by = () => (isMoved() ? amounts().join(",") : undefined);

  /** What the address cannot hold of a car stays in this browser: reloading and going back find it there. */
  function remember() {
    const text = car && carToText(car);
    if (text) writeAddress("edit", { [car.draw ? "car" : "code"]: text, by: by() });
    else writeAddress("edit", {}, car?.latent ? { car: keptOf(car), by: by() } : {});
  }

  /** An edited car that is edited further gets into the address as its code, once that is there. */
  const codify = guarded(async () => {
    const base = car;
    if (carToText(base) || base.own) return;
    await codeOf(base);
    if (base === car) remember();
  });

  const decodeRequest = (latents) => ({
    method: "POST",
    path: "decode.webp",
    json: { latents, model: context.model.id },
  });

  const load = latestOnly(guarded(async () => {
    const base = car;
    const latent = isMoved() ? along(await latentOf(base), directions, amounts()) : null;
    const request = latent ? decodeRequest([latent]) : await pictureRequest(base, "webp");
    showRequest(request);
    const [canvas] = await pictures(request, 1, 1, size);
    if (base !== car) return;
    picture.show(canvas);
    if (!latent) base.image ??= urlOf(canvas);
    edited = latent ? carOfLatent(latent, urlOf(canvas), `${base.name}, edited`, base) : base;
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
    remember();
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
    return Promise.all([changing, loadEnds(), loadPlane(), codify()]);
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
  const readCar = carReader(size);
  const receive = guarded(async (files) => {
    const { found, failure } = await readFiles(files, readCar, { one: true });
    if (found.length) await setCar(found[0]);
    if (failure) throw failure;
  });
  onChosen(parts.photo, receive);
  onChosen(parts.camera, receive);
  waysOut(parts.out, guarded, {
    name: "car",
    holds: true,
    link: async () => {
      const url = await shared(edited ?? car);
      remember();
      return url;
    },
    picture: (type) => fileOf(picture.still(SAVED_EDGE), type, 0.9),
  });

  return {
    show: guarded(async ({ car: drawn, code, by: moved }, kept) => {
      const text = drawn ?? code;
      const asked = text === undefined ? carOfKept(kept.car, numbers) : carFromText(text);
      const far = String(moved ?? kept.by ?? "");
      const amounts = far.split(",").map(Number);
      const isSound = amounts.length <= directions.length && amounts.every((amount) => Math.abs(amount) <= REACH);
      if ((text !== undefined && !asked) || (far && !isSound)) sayDamaged();
      const next = asked ?? (car ? null : carFromText(DEFAULT));
      if (next) await setCar(next, asked ? amounts : []);
      else remember();
    }),
    receive,
    /** Edit this car. */
    take: (next) => setCar(next),
  };
}
