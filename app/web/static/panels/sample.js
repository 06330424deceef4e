// A wall of cars that the model makes up: of any kind, or like one that the visitor has brought.
import { addressFor, sayDamaged, writeAddress } from "../address.js";
import { ask, askFile } from "../api.js";
import { carFromText, carOf, carOfKept, carOfLatent, carToText, keptOf, latentOf, newSeed, pictureRequest, sampleRequest, shared } from "../cars.js";
import { choose, chosen, fill, latestOnly, make, partsOf, passFocus, pauses } from "../dom.js";
import { onChosen } from "../files.js";
import { towards } from "../latents.js";
import { carReader, readFiles } from "../photographs.js";
import { requestView } from "../request.js";
import { waysOut } from "../sharing.js";
import { columnsOf, pictures, urlOf } from "../strips.js";

const CARS = 24;
const SAVED_EDGE = 288;
/** What the temperature becomes as a share of the way to other cars: at 1, what is alike is still seen. */
const SHARE = 0.4;

export function samplePanel(root, context) {
  const parts = partsOf(root);
  const showRequest = requestView(parts.request, "sample");
  const guarded = context.guardFor(parts.problem);
  const count = Math.min(CARS, context.model.max_items);
  const { id, image_size: size, latent_dim: numbers } = context.model;
  let cars = [];
  /** The car that those of the wall are like, if any. */
  let near = null;

  const draw = () => ({
    seed: Number(parts.seed.value),
    temperature: Number(parts.temperature.value),
    prior: chosen(root, "prior"),
  });

  const state = () => {
    const { seed, temperature, prior } = draw();
    return {
      seed,
      temperature: temperature === 1 ? undefined : temperature,
      prior: prior === "standard" ? prior : undefined,
      near: near ? carToText(near) : undefined,
    };
  };
  const remember = () => writeAddress("sample", state(), near?.own ? { near: keptOf(near) } : {});

  /** The request for the wall, and its latents where these are not simply drawn. */
  async function wallRequest(drawn, format, query = {}) {
    if (!near) {
      const request = sampleRequest(format, drawn, count);
      return { request: { ...request, query: { ...request.query, ...query } } };
    }
    const { seed, temperature, prior } = drawn;
    const others = sampleRequest("json", { seed, temperature: 1, prior }, count);
    const { latents } = await ask({ ...others, query: { ...others.query, images: "none" } });
    const middle = await latentOf(near);
    const alike = latents.map((latent) => towards(middle, latent, SHARE * temperature));
    const request = { method: "POST", path: `decode.${format}`, query, json: { latents: alike, model: id } };
    return { request, latents: alike };
  }

  const load = latestOnly(guarded(async () => {
    const drawn = draw();
    const middle = near;
    const { request, latents } = await wallRequest(drawn, "webp");
    if (middle !== near) return; // another was chosen meanwhile, and waits
    showRequest(request);
    const sheet = await pictures(request, count, columnsOf(count), size);
    if (middle !== near) return;
    cars = sheet.map((canvas, index) => (latents
      ? carOfLatent(latents[index], urlOf(canvas), `Car ${index + 1} like yours`, near)
      : carOf({ ...drawn, index }, urlOf(canvas))));
    renderWall();
  }));

  const setNear = guarded(async (car) => {
    near = car;
    if (!near) passFocus(parts.free, parts.photo);
    parts.near.hidden = !near;
    parts.photoWords.textContent = near ? "Cars like another" : "Cars like mine";
    if (near && !near.image) near.image = urlOf((await pictures(await pictureRequest(near, "webp"), 1, 1, size))[0]);
    if (near === car && near) parts.nearPicture.src = near.image;
    remember();
    await load();
  });
  const paused = pauses();
  const loadAtRest = guarded(async () => { if (await paused()) load(); });

  /** Tiles stay the elements they are: whoever is on one with the keyboard stays there. */
  function renderWall() {
    while (parts.wall.children.length < cars.length) {
      const index = parts.wall.children.length;
      parts.wall.append(make("li", {}, make("button", {
        type: "button",
        onclick: () => context.openCar(cars[index]),
      }, make("img"))));
    }
    cars.forEach((car, index) => {
      Object.assign(parts.wall.children[index].firstChild.firstChild, { src: car.image, alt: car.name });
    });
  }

  function changed(reload = load) {
    fill(parts.temperature);
    parts.degree.textContent = Number(parts.temperature.value).toFixed(2);
    if (!parts.seed.checkValidity()) return;
    remember();
    reload();
  }

  parts.redraw.addEventListener("click", () => {
    parts.seed.value = newSeed();
    changed();
  });
  for (const input of root.querySelectorAll(".bar input:not([type=file])")) input.addEventListener("input", () => changed(loadAtRest));
  const readCar = carReader(size);
  const receive = guarded(async (files) => {
    const { found, failure } = await readFiles(files, readCar, { one: true });
    if (found.length) await setNear(found[0]);
    if (failure) throw failure;
  });
  onChosen(parts.photo, receive);
  onChosen(parts.camera, receive);
  parts.free.addEventListener("click", () => setNear(null));
  waysOut(parts.out, guarded, {
    name: "cars",
    link: async () => {
      if (near && !carToText(near) && !(await shared(near))) return null;
      remember();
      return addressFor("sample", state());
    },
    picture: async (type) => {
      const { request } = await wallRequest(draw(), type.split("/")[1], { size: SAVED_EDGE });
      return askFile(request);
    },
  });

  return {
    show({ seed, temperature, prior, near: text }, kept) {
      const middle = text === undefined ? carOfKept(kept.near, numbers) : carFromText(text);
      if (seed !== undefined || !parts.seed.value) parts.seed.value = seed ?? newSeed();
      const isSeed = parts.seed.checkValidity();
      if (!isSeed) parts.seed.value = newSeed();
      const isWarm = temperature === undefined || (Number(temperature) >= 0 && Number(temperature) <= 2);
      if (!isWarm) parts.temperature.value = 1;
      else if (temperature !== undefined) parts.temperature.value = temperature;
      if (!isSeed || !isWarm || (text !== undefined && !middle) || ![undefined, "fitted", "standard"].includes(prior)) sayDamaged();
      if (prior !== undefined) choose(root, "prior", prior === "standard" ? "standard" : "fitted");
      const isFree = near && seed !== undefined;
      changed(middle || isFree ? () => setNear(middle) : load);
    },
    receive,
  };
}
