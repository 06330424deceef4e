// Photographs on their way in: whatever file they come in, they become pictures that the page can show and cut.
import { ask, askFile } from "./api.js";
import { carOfPhoto } from "./cars.js";
import { say } from "./dom.js";
import { asProblem } from "./failures.js";
import { fileOf, urlOfFile } from "./files.js";
import { remarkOn } from "./likeness.js";
import { shrunk } from "./picture.js";
import { FilesProblem, Problem } from "./problems.js";

/** The longer edge of what is kept of a photograph: a tenth of it is still more than the model sees. */
const KEPT_EDGE = 2400;
const QUALITY = 0.95;

/** The longer edge of what is sent of a photograph: four times what the model sees, so that nothing of it is lost. */
const sentEdge = ({ width, height }) => 4 * Math.max(width, height);

/**
 * A photograph, upright: {picture, width, height, bytes, name}. `picture` is a canvas with as much of it as is needed,
 * `width` and `height` are its own pixels, `bytes` those of its file. What the browser cannot show, the service does.
 */
export async function readPhotograph(file) {
  if (file.type && !file.type.startsWith("image/")) throw new Problem(415);
  const bitmap = (await bitmapOf(file)) ?? (await bitmapOf(await askFile(previewRequest(file))));
  if (!bitmap) throw new Problem("picture");
  const photograph = photographOf(bitmap, file.size, file.name);
  bitmap.close();
  return photograph;
}

/** What the browser shows already, as a photograph. */
export const photographOf = (source, bytes, name = "") =>
  ({ picture: shrunk(source, KEPT_EDGE), width: source.width, height: source.height, bytes, name });

const bitmapOf = (file) => createImageBitmap(file).catch(() => null);
const previewRequest = (file) => ({ method: "POST", path: "preview.webp", file });

/** The file that is sent of a picture, or of a part of it. */
export const sentFile = (picture, size, area) => fileOf(shrunk(picture, sentEdge(size), area), "image/jpeg", QUALITY);

/** The request that turns a picture into a latent and back. */
export const photoRequest = (file) => ({ method: "POST", path: "reconstruct.json", query: { images: "webp" }, file });

/**
 * What `read` makes of files, one after another: {found, failure}. A file that fails does not keep the others back:
 * `failure` names it, and only such files are tried again. With `one`, the first is taken that can be.
 */
export async function readFiles(files, read, { one = false } = {}) {
  const found = [];
  const failed = [];
  for (const file of files) {
    if (one && found.length) {
      say("One photograph is taken here. Interpolate takes several.", 8);
      break;
    }
    try {
      found.push(await read(file));
    } catch (error) {
      failed.push({ file, problem: asProblem(error) });
    }
  }
  return { found, failure: failed.length ? new FilesProblem(failed) : null };
}

/** Reads a file into the car in it, as the model sees it. */
export const carReader = (size) => async (file) => {
  const { picture } = await readPhotograph(file);
  const sent = await sentFile(picture, size);
  const { latents, images, likeness } = await ask(photoRequest(sent));
  const remark = remarkOn(likeness?.[0]);
  if (remark) say(remark, 8);
  return carOfPhoto(latents[0], images[0], await urlOfFile(sent));
};
