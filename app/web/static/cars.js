// Cars: {latent, image, name, draw, code, own, ofCode, photo}. `draw` says how to draw a sampled car again, `code` is any
// other in short: one of them is what addresses hold of it. `own` is what came as a photograph and was not shared, `ofCode`
// what came as a code, whose picture is more than that of its latent. `photo` is what was sent of a photograph, as a data
// URL: its code is made of that, and keeps its shape.
import { addressOfCode, hasCodes, servedModel } from "./address.js";
import { ask } from "./api.js";
import { fileOfUrl, isPictureUrl } from "./files.js";
import { Problem } from "./problems.js";

const PATTERN = /^(\d{1,16})-(\d{1,2})(?:-(\d(?:\.\d{1,2})?))?(-standard)?$/;
const CODE = /^[\w-]{22,534}$/;
const SEEDS = 100000;

/** The bytes of a car's code: its picture at 32 dB, and with more of them its latent is no nearer. */
const CODE_BYTES = 128;

/** A seed that is short enough to be read aloud. */
export const newSeed = () => Math.floor(Math.random() * SEEDS);

/** A fresh way to draw one car. */
export const newDraw = () => ({ seed: newSeed(), index: 0, temperature: 1, prior: "fitted" });

/** `seed-index`, with the temperature and the prior where they are not the usual ones. */
export function drawToText({ seed, index, temperature, prior }) {
  const standard = prior === "standard" ? "-standard" : "";
  return `${seed}-${index}${temperature === 1 ? "" : `-${temperature}`}${standard}`;
}

/** The inverse of drawToText; null for anything else. */
export function drawFromText(text) {
  const match = PATTERN.exec(text);
  if (!match) return null;
  const [, seed, index, temperature = "1", standard] = match;
  const draw = { seed: Number(seed), index: Number(index), temperature: Number(temperature), prior: standard ? "standard" : "fitted" };
  return Number.isSafeInteger(draw.seed) && draw.index < 64 && draw.temperature <= 2 ? draw : null;
}

/** A sampled car; of its picture and its latent each is there only once somebody has needed it. */
export const carOf = (draw, image = null) => ({
  latent: null, image, name: `Car ${draw.index + 1} of seed ${draw.seed}`, draw, code: null, own: false,
});

/** The car of a code, which is asked for as that of a draw is. */
export const carOfCode = (code) => ({
  latent: null, image: null, name: "A shared car", draw: null, code, own: false, ofCode: true,
});

/** A car that came as a photograph: it is the visitor's own until it is shared. */
export const carOfPhoto = (latent, image, photo) => ({
  latent, image, name: "Your photograph", draw: null, code: null, own: true, photo,
});

/** What another car has become. */
export const carOfLatent = (latent, image, name, from) => ({ latent, image, name, draw: null, code: null, own: from.own });

/** What an address holds of a car; nothing where it is the visitor's own, or where nobody has asked for its code. */
export function carToText({ draw, code, own }) {
  if (draw) return drawToText(draw);
  return own ? undefined : (code ?? undefined);
}

/** The inverse; null for anything else. */
export function carFromText(text) {
  const draw = drawFromText(text);
  if (draw) return carOf(draw);
  return CODE.test(text) ? carOfCode(text) : null;
}

/** What this browser keeps of a car until the page is closed, where its address says nothing of it. */
export const keptOf = ({ latent, name, own, photo }) => ({ latent, name, own, photo });

/** The inverse; null for anything else. */
export function carOfKept(kept, numbers) {
  const isCar = Array.isArray(kept?.latent) && kept.latent.length === numbers && kept.latent.every(Number.isFinite);
  if (!isCar) return null;
  const photo = isPictureUrl(kept.photo) ? kept.photo : undefined;
  return { ...carOfLatent(kept.latent, null, String(kept.name), { own: kept.own === true }), photo };
}

const asking = { latent: new WeakMap(), code: new WeakMap() };

/** What a car has not got yet is asked for when it is first needed, and once. */
async function have(car, what, ask) {
  const asked = asking[what];
  if (!car[what] && !asked.has(car)) asked.set(car, ask(car).finally(() => asked.delete(car)));
  return car[what] ?? asked.get(car);
}

export const latentOf = (car) => have(car, "latent", askLatent);

/** The code of a car; null where the model has none. */
export const codeOf = async (car) => (hasCodes() ? have(car, "code", askCode) : null);

/** The address of a car itself, for others; null where the model has no codes. It is the visitor's own no longer. */
export async function shared(car) {
  const code = await codeOf(car);
  if (code) car.own = false;
  return code && addressOfCode(code);
}

async function askCode(car) {
  const sent = car.photo ? { file: fileOfUrl(car.photo) } : { json: { latents: [await latentOf(car)], model: servedModel() } };
  const { model, items } = await ask({ method: "POST", path: "compress.json", query: { bytes: CODE_BYTES }, ...sent });
  if (model !== servedModel()) throw new Problem(409);
  [car.code] = items[0].codes;
  return car.code;
}

async function askLatent(car) {
  if (car.code) return askLatentOfCode(car);
  const request = sampleRequest("json", car.draw, car.draw.index + 1);
  const { latents } = await ask({ ...request, query: { ...request.query, images: "none" } });
  car.latent = latents[car.draw.index];
  return car.latent;
}

async function askLatentOfCode(car) {
  const query = { code: [car.code, car.code], steps: 2, images: "none" };
  const { model, latents } = await ask({ method: "GET", path: "interpolate.json", query });
  if (model !== servedModel()) throw new Problem(409);
  [car.latent] = latents;
  return car.latent;
}

/** A failure to read a code, in words about codes. */
export function aboutCode(error) {
  if ([400, 404, 422].includes(error.status)) throw new Problem("damaged");
  throw error.status === 409 ? new Problem("foreign") : error;
}

/** The request for a picture of a car. */
export async function pictureRequest(car, format, query = {}) {
  const path = `decode.${format}`;
  if (car.ofCode) return { method: "GET", path, query: { code: car.code, ...query } };
  return { method: "POST", path, query, json: { latents: [await latentOf(car)], model: servedModel() } };
}

/** The request for the first `count` cars of a seed, which browsers keep. A model may have no fitted prior. */
export function sampleRequest(format, { seed, temperature, prior }, count) {
  const query = { count, seed };
  if (temperature !== 1) query.temperature = temperature;
  if (prior === "standard") query.prior = prior;
  return { method: "GET", path: `sample.${format}`, query };
}

/** Whether a seed alone says which car it is. */
export const isOfSeed = ({ draw }) => draw?.index === 0 && draw.temperature === 1 && draw.prior === "fitted";
