// Several pictures in one file, as the service sends them: loaded, and cut into canvases.
import { askFile } from "./api.js";
import { make } from "./dom.js";
import { penOf } from "./picture.js";
import { Problem } from "./problems.js";

/** The most pixels a side of a WebP file may have. */
const LONGEST_SIDE = 16383;

/** How many pictures of a model fit into one row. */
export const mostInRow = ({ width }) => Math.floor(LONGEST_SIDE / width);

/** How the service lays out several pictures that are not in one row. */
export const columnsOf = (count) => Math.ceil(Math.sqrt(count));

/** The `count` pictures of the file that answers a request, as canvases of the model's own size. */
export async function pictures(request, count, columns, { width, height }) {
  const sheet = await createImageBitmap(await askFile(request)).catch(() => { throw new Problem("picture"); });
  if (sheet.width !== columns * width || sheet.height !== Math.ceil(count / columns) * height) throw new Problem("picture");
  const cut = (_, i) => {
    const canvas = make("canvas", { width, height });
    const place = [(i % columns) * width, Math.floor(i / columns) * height];
    penOf(canvas).drawImage(sheet, ...place, width, height, 0, 0, width, height);
    return canvas;
  };
  const cuts = Array.from({ length: count }, cut);
  sheet.close();
  return cuts;
}

/** A canvas as an address for an <img>, which can be kept. */
export const urlOf = (canvas) => canvas.toDataURL();
