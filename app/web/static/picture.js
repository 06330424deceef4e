// A canvas that enlarges small pictures smoothly, at the resolution of the screen.

/** Load an image from its address. */
export async function loadImage(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

export class Picture {
  #canvas;
  #layers = [];

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
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
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    for (const [image, opacity] of this.#layers) {
      if (opacity === 0) continue;
      pen.globalAlpha = opacity;
      pen.drawImage(image, 0, 0, width, height);
    }
  }
}
