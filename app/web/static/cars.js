// Cars: {latent, image, name, draw}. `draw` says how to draw a sampled car again and is what addresses hold of it.
import { ask } from "./api.js";
import { say } from "./dom.js";
import { fileOf } from "./files.js";
import { remarkOn } from "./likeness.js";
import { shrunk } from "./picture.js";

const PATTERN = /^(\d{1,16})-(\d{1,2})(?:-(\d(?:\.\d{1,2})?))?(-standard)?$/;
const SEEDS = 100000;

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
  latent: null, image, name: `Car ${draw.index + 1} of seed ${draw.seed}`, draw,
});

const asking = new WeakMap();

/** The latent of a car: a sampled one is asked for when it is first needed, and once. */
export async function latentOf(car) {
  if (!car.latent && !asking.has(car)) asking.set(car, askLatent(car).finally(() => asking.delete(car)));
  return car.latent ?? asking.get(car);
}

async function askLatent(car) {
  const request = sampleRequest("json", car.draw, car.draw.index + 1);
  const { latents } = await ask({ ...request, query: { ...request.query, images: "none" } });
  car.latent = latents[car.draw.index];
  return car.latent;
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

/** The request that turns a picture into a latent and back. */
export const photoRequest = (file) => ({ method: "POST", path: "reconstruct.json", query: { images: "webp" }, file });

/** The longer edge of what is sent of a photograph: four times what the model sees, so that nothing of it is lost. */
export const sentEdge = ({ width, height }) => 4 * Math.max(width, height);

/** The car in a photograph, as the model sees it. What the browser cannot show is sent as it is. */
export async function carOfPhoto(file, size) {
  const source = await createImageBitmap(file).catch(() => null);
  const sent = source ? await fileOf(shrunk(source, sentEdge(size)), "image/jpeg", 0.95) : file;
  const { latents, images, likeness } = await ask(photoRequest(sent));
  const remark = remarkOn(likeness?.[0]);
  if (remark) say(remark, 8);
  return { latent: latents[0], image: images[0], name: "Your photograph", draw: null };
}
