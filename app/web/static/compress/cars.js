// Asks for a car in all numbers of bytes at once.
import { ask, askFile } from "../api.js";
import { aboutCode, sampleRequest } from "../cars.js";
import { loadImage, shrunk } from "../picture.js";
import { Problem } from "../problems.js";

/** The numbers of bytes to choose from. */
export const STOPS = [24, 35, 48, 64, 94, 128, 192, 255, 400];
const LEAST = 16;

/** Other formats, as the service and as people call them. */
export const OTHERS = { webp: "WebP", blurhash: "BlurHash", thumbhash: "ThumbHash", jpeg: "JPEG", avif: "AVIF" };

/**
 * A car in all numbers of bytes: {original, stops, pictures, urls, codes, lengths, psnr, others}. `original` is
 * what it is beside, at the model's size, or null; for each of `stops` there is a picture (without its border), its
 * address (with it), a code, its length, and its dB (null where it is the original itself); `others` are
 * {format, bytes, psnr, images, smallest}; of a photograph there is `likeness`.
 *
 * Of a drawn car {draw}, of a photograph {file, original}, or of a code {code}. `showRequest` is told of the request,
 * `showOriginal` of what is there before the answer.
 */
export async function carAtAllStops(source, showRequest, showOriginal) {
  if (source.code) return carOfCode(source.code, showRequest);
  const { original, body, whole } = source.draw ? await drawn(source.draw) : {
    original: source.original, body: { file: source.file }, whole: undefined,
  };
  if (original) showOriginal(original);
  const request = compressRequest(STOPS, body);
  showRequest(request);
  const { items: [item] } = await ask(request);
  const box = boxOf(item);
  return {
    original: original && shrunk(original, Math.max(box.width, box.height), whole && box),
    stops: STOPS,
    pictures: await cutOut(item, box),
    urls: item.images,
    codes: item.codes,
    lengths: item.bytes,
    psnr: item.psnr,
    others: item.others,
    likeness: item.likeness,
  };
}

/** What a drawn car is, as far as compressing it goes: it has no border. */
async function drawn(draw) {
  const request = sampleRequest("json", draw, draw.index + 1);
  const { images, latents } = await ask({ ...request, query: { ...request.query, images: "webp" } });
  return { original: await loadImage(images[draw.index]), body: { json: { latents: [latents[draw.index]] } }, whole: true };
}

/** As it came, it is the last of its stops; before it stands what it becomes in fewer bytes. */
async function carOfCode(code, showRequest) {
  const file = await askFile({ method: "GET", path: `c/${encodeURIComponent(code)}.webp` }).catch(aboutCode);
  const original = await createImageBitmap(file).catch(() => { throw new Problem("picture"); });
  const own = Math.floor((code.length * 3) / 4);
  const stops = [...STOPS.filter((stop) => stop < own), own];
  const request = compressRequest(stops.map((stop) => Math.max(stop, LEAST)), { json: { codes: [code] } });
  showRequest(request);
  const item = await rewritten(request);
  const pictures = item ? await cutOut(item, boxOf(item)) : [];
  const fewer = (values = []) => values.slice(0, stops.length - 1);
  return {
    original,
    stops: item ? stops : [own],
    pictures: [...fewer(pictures), original],
    urls: [...fewer(item?.images), URL.createObjectURL(file)],
    codes: [...fewer(item?.codes), code],
    lengths: [...fewer(item?.bytes), own],
    psnr: [...fewer(item?.psnr), null],
    others: item?.others ?? [],
  };
}

/** The answer for one car; null for a code of an older model, which is read and not written. */
async function rewritten(request) {
  try {
    return (await ask(request)).items[0];
  } catch (error) {
    if (error.status === 409) return null;
    throw error;
  }
}

const compressRequest = (budgets, body) => ({
  method: "POST",
  path: "compress.json",
  query: { bytes: budgets.join(","), images: "webp", others: Object.keys(OTHERS).join(",") },
  ...body,
});

/** What is no border in the model's picture. */
function boxOf({ box: [x, y, right, bottom] }) {
  return { x, y, width: right - x, height: bottom - y };
}

const cutOut = async ({ images }, box) =>
  (await Promise.all(images.map(loadImage))).map((image) => shrunk(image, Math.max(box.width, box.height), box));
