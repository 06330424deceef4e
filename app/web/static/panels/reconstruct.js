// A photograph, cropped, through the encoder and back.
import { writeAddress } from "../address.js";
import { ask, askFile } from "../api.js";
import { newDraw, photoRequest, sampleRequest, sentEdge } from "../cars.js";
import { Crop } from "../crop.js";
import { latestOnly, make, partsOf, pauses, say } from "../dom.js";
import { bytes, fileOf, onChosen } from "../files.js";
import { plot } from "../latents.js";
import { remarkOn } from "../likeness.js";
import { Picture, loadImage } from "../picture.js";
import { requestView } from "../request.js";

const QUALITY = 0.95;
const FLOAT_BYTES = 4;

export function reconstructPanel(root, context) {
  const { image_size: size, latent_dim: numbers } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "reconstruct");
  const guarded = context.guardFor(parts.problem);
  const crop = new Crop(parts.crop, () => sendAtRest());
  let car = null;

  const send = latestOnly(guarded(async () => {
    const { width, height } = crop.area;
    const file = await fileOf(crop.cut(sentEdge(size)), "image/jpeg", QUALITY);
    await reconstruct(file, `${width} × ${height} pixels, ${bytes(file.size)} sent`);
  }));

  const paused = pauses();
  const sendAtRest = guarded(async () => { if (await paused()) await send(); });

  async function reconstruct(file, originalSize) {
    const request = photoRequest(file);
    showRequest(request);
    const { images, latents, psnr, ssim, likeness } = await ask(request);
    parts.remark.textContent = remarkOn(likeness?.[0]);
    car = { latent: latents[0], image: images[0], name: "Your photograph", draw: null };
    picture.show(await loadImage(car.image));
    parts.originalSize.textContent = originalSize;
    parts.copySize.textContent = `${size.width} × ${size.height} pixels`;
    parts.latentSize.textContent = `${numbers} numbers, ${bytes(FLOAT_BYTES * numbers)}`;
    parts.psnr.textContent = `${psnr[0].toFixed(1)} dB`;
    parts.ssim.textContent = ssim[0].toFixed(2);
    parts.ratio.textContent = `${Math.max(1, Math.round(file.size / (FLOAT_BYTES * numbers)))}×`;
    parts.bars.replaceChildren(plot(car.latent));
    parts.result.hidden = false;
  }

  /** A picture the browser cannot show may still be one that the service reads: it has the last word. */
  const take = guarded(async (file) => {
    parts.drop.classList.add("compact");
    const source = await createImageBitmap(file).catch(() => null);
    parts.whole.disabled = parts.fit.disabled = source === null;
    if (source) {
      parts.result.hidden = false;
      crop.load(source);
      return;
    }
    parts.result.hidden = true;
    await reconstruct(file, bytes(file.size));
    parts.crop.replaceChildren(make("p", { className: "hint" }, "The browser cannot show this kind of picture."));
  });

  const ifAny = (use) => () => (car ? use(car) : say("There is no reconstruction yet."));

  onChosen(parts.file, ([file]) => take(file));
  onChosen(parts.camera, ([file]) => take(file));
  parts.example.addEventListener("click", guarded(async () => {
    await take(await askFile(sampleRequest("webp", newDraw(), 1)));
  }));
  parts.whole.addEventListener("click", () => crop.whole());
  parts.fit.addEventListener("click", () => crop.fit(size.width / size.height));
  parts.keep.addEventListener("click", ifAny((it) => {
    context.garage.add(it);
  }));
  parts.interpolate.addEventListener("click", ifAny((it) => context.startFrom(it)));
  parts.edit.addEventListener("click", ifAny((it) => context.edit(it)));

  return {
    show: () => writeAddress("reconstruct", {}),
    receive: ([file]) => take(file),
  };
}
