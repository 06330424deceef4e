// A canvas that enlarges small pictures smoothly, at the resolution of the screen.

import { make } from "./dom.js";
import { Problem } from "./problems.js";

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

  #draw() {
    const canvas = this.#canvas;
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = penOf(canvas);
    pen.clearRect(0, 0, width, height); // edges are soft: what was there before would shine through
    for (const [image, opacity] of this.#layers) {
      if (opacity === 0) continue;
      pen.globalAlpha = opacity;
      pen.drawImage(image, 0, 0, width, height);
    }
  }
}
