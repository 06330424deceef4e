// A canvas that enlarges small pictures smoothly, at the resolution of the screen.

import { make } from "./dom.js";
import { Problem } from "./problems.js";

/** The longer edge of pictures that are saved. */
export const SAVED_EDGE = 1152;

/** Load an image from its address. */
export async function loadImage(source) {
  const image = new Image();
  image.src = source;
  try {
    await image.decode();
  } catch {
    throw new Problem("picture");
  }
  return image;
}

/** What draws on a canvas; a browser that is short of memory may give none. */
export function penOf(canvas) {
  const pen = canvas.getContext("2d");
  if (!pen) throw new Problem("canvas");
  pen.imageSmoothingQuality = "high";
  return pen;
}

/** A canvas of a part of a picture (all of it unless given), on white, its longer edge at most `longest` pixels. */
export function shrunk(source, longest, { x, y, width, height } = { x: 0, y: 0, width: source.width, height: source.height }) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const canvas = make("canvas", {
    width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)),
  });
  const pen = penOf(canvas);
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** What is no border where a picture of a shape is fitted into a size, as the service does it. */
export function boxInside(shape, { width, height }) {
  const scale = Math.min(width / shape.width, height / shape.height);
  const box = { width: Math.max(1, Math.round(shape.width * scale)), height: Math.max(1, Math.round(shape.height * scale)) };
  return { x: Math.floor((width - box.width) / 2), y: Math.floor((height - box.height) / 2), ...box };
}

/** A picture with its longer edge at `edge` pixels. */
export function enlarged(picture, edge) {
  const scale = edge / Math.max(picture.width, picture.height);
  const canvas = make("canvas", { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
  penOf(canvas).drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
}

export class Picture {
  #canvas;
  #layers = [];

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => { if (this.#layers.length) this.#draw(); }).observe(canvas);
  }

  /** Show one image. */
  show(image) {
    this.blend(image, image, 0);
  }

  /** Show two images faded into one another: `share` of the second. */
  blend(first, second, share) {
    this.#layers = [[first, 1], [second, share]];
    this.#draw();
  }

  /** A canvas with what is shown, its longer edge at `edge` pixels. */
  still(edge) {
    const [[first]] = this.#layers;
    const canvas = enlarged(first, edge);
    this.#paint(canvas);
    return canvas;
  }

  #draw() {
    const canvas = this.#canvas;
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.#paint(canvas);
  }

  #paint(canvas) {
    const { width, height } = canvas;
    const pen = penOf(canvas);
    pen.clearRect(0, 0, width, height); // edges are soft: what was there before would shine through
    for (const [image, opacity] of this.#layers) {
      if (opacity === 0) continue;
      pen.globalAlpha = opacity;
      pen.drawImage(image, 0, 0, width, height);
    }
  }
}
