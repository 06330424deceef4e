// Cars: {latent, image, name, draw}. `draw` says how to draw a sampled car again and is what addresses hold of it.
import { ask } from "./api.js";

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

/** The cars of a list of draws. Those of one seed come from one request: the first cars do not depend on the count. */
export async function drawCars(draws) {
  const answers = new Map();
  const groupOf = ({ seed, temperature, prior }) => `${seed} ${temperature} ${prior}`;
  for (const group of new Set(draws.map(groupOf))) {
    const same = draws.filter((draw) => groupOf(draw) === group);
    answers.set(group, ask(sampleRequest(same[0], Math.max(...same.map(({ index }) => index)) + 1)));
  }
  return Promise.all(draws.map(async (draw) => sampledCar(await answers.get(groupOf(draw)), draw)));
}

/** The request that draws the first `count` cars of a seed. A model without a fitted prior has only the other. */
export function sampleRequest({ seed, temperature, prior }, count) {
  const choice = prior === "standard" ? { prior } : {};
  return { method: "POST", path: "sample", query: { format: "json" }, json: { count, seed, temperature, ...choice } };
}

/** One car of an answer of /sample. */
export function sampledCar({ latents, images }, draw) {
  return {
    latent: latents[draw.index],
    image: images[draw.index],
    name: `Car ${draw.index + 1} of seed ${draw.seed}`,
    draw,
  };
}

/** The request that turns a picture into a latent and back. */
export const photoRequest = (file) => ({ method: "POST", path: "reconstruct", query: { format: "json" }, file });

/** The car in a photograph, as the model sees it. */
export async function carOfPhoto(file) {
  const { latents, images } = await ask(photoRequest(file));
  return { latent: latents[0], image: images[0], name: "Your photograph", draw: null };
}
