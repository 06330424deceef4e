// A car as a short code: beside the original, at each number of bytes, and beside other formats of as many.
import { addressOfCode, sayDamaged, writeAddress } from "../address.js";
import { drawFromText, drawToText, newDraw } from "../cars.js";
import { STOPS, carAtAllStops } from "../compress/cars.js";
import { curve, makeTiles, overtakers } from "../compress/formats.js";
import { Crop } from "../crop.js";
import { copy, fill, latestOnly, make, partsOf, pauses, say } from "../dom.js";
import { download, fileOf, onChosen, urlOfFile } from "../files.js";
import { remarkOn } from "../likeness.js";
import { photographOf, readFiles, readPhotograph, sentFile } from "../photographs.js";
import { Picture, SAVED_EDGE, enlarged, loadImage, shrunk } from "../picture.js";
import { requestView } from "../request.js";

const USUAL = 94;
/** As early.js asks for it. */
const FIRST = { seed: 28, index: 0, temperature: 1, prior: "fitted" };
/** Of what is shown as the original: more than a screen tells beside the model's picture. */
const ORIGINAL_EDGE = 384;
const NO_CODE = new Set(["damaged", "foreign"]);

export function compressPanel(root, context) {
  const { image_size: size } = context.model;
  const parts = partsOf(root);
  const [left, right] = [new Picture(parts.original), new Picture(parts.decoded)];
  const showTiles = makeTiles(parts.tiles);
  const showRequest = requestView(parts.request, "compress");
  const guarded = context.guardFor(parts.problem);
  const crop = new Crop(parts.crop, () => sendAtRest());
  const place = () => Number(parts.size.value);
  const code = () => car.codes[place()];
  /** Of carAtAllStops, with the source it is of. */
  let car = null;
  /** The photograph that can be cropped, and the part of it that was sent last. */
  let photo = null;
  let sent = "";
  /** The code of a photograph that was shared: it may stand in the address. */
  let shared = null;

  // From a source to what is shown.

  const open = latestOnly(guarded(async (source, bytes) => {
    try {
      const found = await carAtAllStops(source, showRequest, (original) => { if (!car) showOriginal(original); });
      showCar({ ...found, source }, bytes);
    } catch (error) {
      if (NO_CODE.has(error.status)) showNothing();
      throw error;
    }
  }));

  function showCar(next, bytes) {
    const stays = car && !car.source.code ? car.stops[place()] : USUAL;
    const wanted = bytes ?? (next.source.code ? Infinity : stays);
    car = next;
    shared = null;
    parts.framing.hidden = !(car.source.file && photo);
    parts.size.max = car.stops.length - 1;
    parts.size.value = Math.max(0, car.stops.findLastIndex((stop) => stop <= wanted));
    parts.size.disabled = car.stops.length === 1;
    parts.scale.replaceChildren(...car.stops.map((stop) => make("li", {}, String(stop))));
    shape(car.pictures[0]);
    for (const element of root.querySelectorAll("[data-car]")) element.hidden = false;
    parts.easy.hidden = !car.source.draw;
    parts.remark.textContent = remarkOn(car.likeness);
    parts.overtakers.textContent = overtakers(car);
    parts.originalName.textContent = car.source.code ? "as it came" : "original";
    if (car.original) left.show(car.original);
    parts.compare.classList.remove("waiting");
    showStop();
  }

  /** What there is while the rest is on its way: at a first visit, something to see. */
  function showOriginal(original) {
    shape(original);
    parts.compare.hidden = false;
    left.show(original);
  }

  function titled(words) {
    parts.title.textContent = words;
    if (!root.hidden) document.title = `${words} · car-vae`;
  }

  const shape = ({ width, height }) => root.style.setProperty("--shape", width / height);

  function showNothing() {
    car = null;
    parts.remark.textContent = "";
    titled("A car in a short text");
    for (const element of root.querySelectorAll("[data-car]")) element.hidden = true;
  }

  /** The car in the number of bytes that the slider is at: everything for it is there. */
  function showStop() {
    const [stop, length, decibels] = [car.stops[place()], car.lengths[place()], car.psnr[place()]];
    titled(`This car is ${length} bytes`);
    parts.letters.textContent = String(code().length);
    fill(parts.size);
    parts.size.setAttribute("aria-valuetext", `${stop} bytes${decibels === null ? "" : `, ${decibels.toFixed(1)} decibels`}`);
    right.show(car.pictures[place()]);
    const isAlone = !car.original || car.original === car.pictures[place()];
    parts.compare.classList.toggle("single", isAlone);
    parts.side.hidden = isAlone;
    parts.decibels.textContent = decibels === null ? "As it came" : `${decibels.toFixed(1)} dB`;
    parts.length.textContent = String(length);
    parts.budget.textContent = String(stop);
    showTiles(car, place());
    parts.curve.replaceChildren(curve(car, place()));
    parts.code.textContent = code();
    if (!parts.qr.hidden) showQr();
    writeState();
  }

  // Photographs.

  async function send(area) {
    sent = JSON.stringify(area);
    await open({ file: await sentFile(photo, size, area), original: shrunk(photo, ORIGINAL_EDGE, area) });
  }

  async function take({ picture }) {
    photo = picture;
    const { width, height } = photo;
    await send({ x: 0, y: 0, width, height });
    if (parts.framing.open) crop.load(photo);
  }

  const receive = latestOnly(guarded(async (files) => {
    const { found, failure } = await readFiles(files, readPhotograph, { one: true });
    if (found.length) await take(found[0]);
    if (failure) throw failure;
  }));

  const paused = pauses();
  const sendAtRest = guarded(async () => {
    if (await paused() && JSON.stringify(crop.area) !== sent) await send(crop.area);
  });

  onChosen(parts.file, receive);
  onChosen(parts.camera, receive);
  parts.framing.addEventListener("toggle", () => { if (parts.framing.open && photo) crop.load(photo); });
  parts.whole.addEventListener("click", () => crop.whole());
  parts.fit.addEventListener("click", () => crop.fit(size.width / size.height));
  parts.another.addEventListener("click", () => open({ draw: newDraw() }));

  // The picture and the slider.

  function divide() {
    const share = Number(parts.divider.value);
    parts.compare.style.setProperty("--share", share / 100);
    parts.compare.dataset.end = { 0: "left", 100: "right" }[share] ?? "";
    parts.divider.setAttribute("aria-valuetext", `${share} % original`);
  }

  parts.divider.addEventListener("input", divide);
  divide();
  parts.size.addEventListener("input", showStop);

  // Out of the page: the address, links, files.

  const link = () => addressOfCode(code());

  /** A photograph stands in it only once it has been shared. */
  function state() {
    const stop = car.stops[place()];
    const { draw, code: own } = car.source;
    if (draw) return { car: drawToText(draw), bytes: stop === USUAL ? undefined : stop };
    if (own) return { code: own, bytes: place() === car.stops.length - 1 ? undefined : stop };
    return { code: shared === code() ? shared : undefined };
  }

  /** A photograph that is not in the address is kept for this browser alone: reloading finds it. */
  async function writeState() {
    const photo = car.source.file && await urlOfFile(car.source.file);
    if (!car) return;
    const values = state();
    writeAddress("compress", values, photo && !values.code ? { photo } : {});
  }

  async function showQr() {
    const { qrPicture } = await import("../compress/qr.js");
    const words = "QR code of the link to this car";
    parts.qr.replaceChildren(qrPicture(link(), words));
  }

  const toggleQr = guarded(async () => {
    const isShown = parts.qr.hidden;
    if (isShown) await showQr();
    parts.qr.hidden = !isShown;
    parts.showQr.setAttribute("aria-expanded", String(isShown));
  });

  const share = guarded(async () => {
    if (car.source.file) shared = code();
    writeState();
    if (!navigator.share) return copy(link(), "Link copied.");
    const told = { title: "A car", text: parts.title.textContent, url: link() };
    await navigator.share(told).catch((error) => { if (error.name !== "AbortError") return copy(link(), "Link copied."); });
  });

  parts.share.addEventListener("click", share);
  parts.link.addEventListener("click", () => copy(link(), "Link copied."));
  parts.copy.addEventListener("click", () => copy(code(), "Code copied."));
  parts.showQr.addEventListener("click", toggleQr);
  parts.picture.addEventListener("click", guarded(async () => {
    download(await fileOf(enlarged(car.pictures[place()], SAVED_EDGE), "image/png"), `car-${car.lengths[place()]}-bytes.png`);
  }));
  parts.raw.addEventListener("click", () => {
    download(new Blob([bytesOf(code())], { type: "application/octet-stream" }), `car-${car.lengths[place()]}-bytes.bin`);
  });
  parts.paste.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = codeIn(parts.given.value);
    if (text) open({ code: text });
    else say("There is no code in this.");
  });

  return {
    async show({ car: drawn, code: given, bytes }, { photo: kept }) {
      const stop = bytes === undefined ? undefined : Number(bytes);
      if (bytes !== undefined && !STOPS.includes(stop)) sayDamaged();
      if (given !== undefined) {
        if (given !== car?.source.code) open({ code: given }, stop);
        return;
      }
      const draw = drawn === undefined ? null : drawFromText(drawn);
      if (drawn !== undefined && !draw) sayDamaged();
      if (!drawn && !car && kept) take(photographOf(await loadImage(kept)));
      else if (draw || !car) open({ draw: draw ?? FIRST }, stop);
      else writeState();
    },
    receive,
  };
}

/** The code in what was pasted: it is alone, or in a link. */
const codeIn = (text) => /(?:\/c\/|[?&]code=)([\w-]+)/.exec(text)?.[1] ?? text.replace(/\s/g, "");

const bytesOf = (code) => Uint8Array.from(atob(code.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.codePointAt(0));
