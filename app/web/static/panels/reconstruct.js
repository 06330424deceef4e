// A photograph, cropped, through the encoder and back.
import { writeAddress } from "../address.js";
import { ask, askFile } from "../api.js";
import {
  aboutCode, carFromText, carOfPhoto, carToText, codeOf, latentOf, newDraw, pictureRequest, sampleRequest, shared,
} from "../cars.js";
import { Crop } from "../crop.js";
import { latestOnly, partsOf, pauses, say } from "../dom.js";
import { bytes, fileOf, onChosen, urlOfFile } from "../files.js";
import { plot } from "../latents.js";
import { remarkOn } from "../likeness.js";
import { Picture, SAVED_EDGE, boxInside, loadImage, shrunk } from "../picture.js";
import { photoRequest, photographOf, readFiles, readPhotograph, sentFile } from "../photographs.js";
import { Problem } from "../problems.js";
import { requestView } from "../request.js";
import { waysOut } from "../sharing.js";
import { pictures, urlOf } from "../strips.js";

const FLOAT_BYTES = 4;

export function reconstructPanel(root, context) {
  const { image_size: size, latent_dim: numbers } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "reconstruct");
  const guarded = context.guardFor(parts.problem);
  const crop = new Crop(parts.crop, () => sendAtRest());
  let photograph = null;
  let car = null;

  const send = latestOnly(guarded(async () => {
    const { picture: canvas, name, bytes: own } = photograph;
    const file = await sentFile(canvas, size, crop.sourceArea);
    const request = photoRequest(file);
    const { width, height } = crop.area;
    showRequest(request);
    const { images, latents, psnr, ssim, likeness } = await ask(request);
    parts.remark.textContent = remarkOn(likeness?.[0]);
    parts.originalSize.textContent = `${width} × ${height} pixels${name && ` of ${name}`}, ${bytes(own)}`;
    parts.psnr.textContent = `${psnr[0].toFixed(1)} dB`;
    parts.ssim.textContent = ssim[0].toFixed(2);
    parts.ratio.textContent = "…";
    const [image, photo] = await Promise.all([loadImage(images[0]), urlOfFile(file)]);
    const box = boxInside({ width, height }, size);
    showCar(carOfPhoto(latents[0], images[0], photo), shrunk(image, Math.max(image.width, image.height), box));
    await compare(car, own);
  }));

  const paused = pauses();
  const sendAtRest = guarded(async () => { if (await paused()) await send(); });

  /** A car, and its picture in the shape of what it is of: the border that the model sees is no part of it. */
  function showCar(next, shown) {
    car = next;
    picture.show(shown);
    parts.frame.style.setProperty("--shape", shown.width / shown.height);
    parts.copySize.textContent = `${shown.width} × ${shown.height} pixels`;
    parts.latentSize.textContent = `${numbers} numbers, ${bytes(FLOAT_BYTES * numbers)}`;
    parts.bars.replaceChildren(plot(car.latent));
    parts.result.hidden = false;
    parts.drop.classList.add("compact");
    remember();
  }

  /** The photograph's file beside the code of the car; where the model has no codes, beside its latent. */
  async function compare(of, own) {
    const code = await codeOf(of);
    if (of !== car) return;
    const small = code ? Math.floor((3 * code.length) / 4) : FLOAT_BYTES * numbers;
    const times = Math.max(1, Math.round(own / small));
    parts.ratio.textContent = `${times.toLocaleString("en")}×`;
    parts.sizes.textContent = `${bytes(own)} as a file, ${bytes(small)} as ${code ? "a code" : "numbers"}.`;
  }

  /** In the address stands what was shared; what was not is for this browser alone. */
  function remember() {
    const code = car && carToText(car);
    writeAddress("reconstruct", { code }, car?.own ? { photo: car.photo, bytes: photograph.bytes } : {});
  }

  function take(next) {
    photograph = next;
    for (const element of root.querySelectorAll("[data-original]")) element.hidden = false;
    parts.result.hidden = false;
    crop.load(next.picture, next);
  }

  const receive = guarded(async (files) => {
    const { found, failure } = await readFiles(files, readPhotograph, { one: true });
    if (found.length) take(found[0]);
    if (failure) throw failure;
  });

  /** A car that came as a code: of its original there is nothing. */
  const openCode = guarded(async (code) => {
    const next = carFromText(code);
    if (!next?.code) return say("This link is damaged: there is no car in it.", 8);
    const request = { method: "GET", path: `c/${encodeURIComponent(next.code)}.webp` };
    showRequest(request);
    const file = await askFile(request).catch(aboutCode);
    const shown = await createImageBitmap(file).catch(() => { throw new Problem("picture"); });
    const [whole] = await pictures(await pictureRequest(next, "webp"), 1, 1, size);
    await latentOf(next);
    next.image = urlOf(whole);
    for (const element of root.querySelectorAll("[data-original]")) element.hidden = true;
    parts.remark.textContent = "";
    return showCar(next, shown);
  });

  const ifAny = (use) => () => (car ? use(car) : say("There is no reconstruction yet."));

  onChosen(parts.file, receive);
  onChosen(parts.camera, receive);
  parts.example.addEventListener("click", guarded(async () => {
    await receive([await askFile(sampleRequest("webp", newDraw(), 1))]);
  }));
  parts.whole.addEventListener("click", () => crop.whole());
  parts.fit.addEventListener("click", () => crop.fit(size.width / size.height));
  parts.keep.addEventListener("click", ifAny((it) => context.garage.add(it)));
  parts.interpolate.addEventListener("click", ifAny((it) => context.startFrom(it)));
  parts.edit.addEventListener("click", ifAny((it) => context.edit(it)));
  waysOut(parts.out, guarded, {
    name: "car",
    holds: true,
    link: async () => {
      const url = await shared(car);
      remember();
      return url;
    },
    picture: (type) => fileOf(picture.still(SAVED_EDGE), type, 0.9),
  });

  return {
    show: guarded(async ({ code }, { photo, bytes: own }) => {
      if (code !== undefined && code !== car?.code) return openCode(code);
      if (code === undefined && photo && !car) {
        return take(photographOf(await loadImage(photo), own));
      }
      return remember();
    }),
    receive,
  };
}
