// Two or more cars and the way between them: all frames come in one request, the slider moves among them.
import { addressFor, sayDamaged, writeAddress } from "../address.js";
import { askFile } from "../api.js";
import { carFromText, carOf, carOfKept, carToText, codeOf, isOfSeed, keptOf, latentOf, newDraw, shared } from "../cars.js";
import { choose, chosen, fill, latestOnly, make, partsOf, passFocus, say } from "../dom.js";
import { fileOf, onChosen } from "../files.js";
import { carReader, readFiles } from "../photographs.js";
import { Picture, SAVED_EDGE } from "../picture.js";
import { requestView } from "../request.js";
import { waysOut } from "../sharing.js";
import { mostInRow, pictures, urlOf } from "../strips.js";

const MOST_CARS = 16;
const MOST_FRAMES = 64;
const LEG = 32;
const GIF_LEG = 16;
const MOVING_LEG = 24;
const STRIP_LEG = 6;
const LEG_SECONDS = 1.8;
const DEFAULT = "28-0,48-0";

export function interpolatePanel(root, context) {
  const { id, image_size: size, latent_dim: numbers } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "interpolate");
  const guarded = context.guardFor(parts.problem);
  let cars = [];
  let frames = [];
  let selected = 0;
  let player = 0;
  /** The cars that nobody chose, as addresses have them: a path has had to have two. */
  const unchosen = new Set(DEFAULT.split(","));

  const position = () => Number(parts.position.value);

  /** How many frames there are, `leg` from each car to the next at most: every car is a frame itself. */
  function stepsFor(leg) {
    const legs = cars.length - 1;
    const most = Math.min(MOST_FRAMES, mostInRow(size));
    return Math.max(1, Math.min(leg, Math.floor((most - 1) / legs))) * legs + 1;
  }

  /** The request for frames: by seeds where these say it all, so that browsers keep it and no latent is needed. */
  async function pathRequest(format, steps, query = {}) {
    const path = `interpolate.${format}`;
    const method = chosen(root, "method");
    if (cars.every(isOfSeed)) {
      return { method: "GET", path, query: { seed: cars.map(({ draw }) => draw.seed), steps, method, ...query } };
    }
    if (cars.every(({ ofCode }) => ofCode)) {
      return { method: "GET", path, query: { code: cars.map(({ code }) => code), steps, method, ...query } };
    }
    const latents = await Promise.all(cars.map(latentOf));
    return { method: "POST", path, query, json: { latents, steps, method, model: id } };
  }

  const load = latestOnly(guarded(async () => {
    const path = cars;
    const steps = stepsFor(LEG);
    const request = await pathRequest("webp", steps);
    if (path !== cars) return; // others were chosen meanwhile, and wait
    showRequest(request);
    frames = await pictures(request, steps, steps, size);
    if (path !== cars) return;
    cars.forEach((car, i) => {
      car.image ??= urlOf(frames[(i * (steps - 1)) / (cars.length - 1)]);
      parts.stops.children[i].querySelector("img").src = car.image;
    });
    render();
  }));

  function render() {
    fill(parts.position);
    const place = position() * (cars.length - 1);
    const before = Math.min(Math.floor(place), cars.length - 2);
    const percent = Math.round(100 * (place - before));
    const words = `${percent} % of the way from car ${before + 1} to car ${before + 2}`;
    if (!player) parts.position.setAttribute("aria-valuetext", words); // not sixty times a second
    parts.lambda.textContent = `λ = ${position().toFixed(2)}`;
    if (!frames.length) return;
    const exact = position() * (frames.length - 1);
    const first = Math.min(Math.floor(exact), frames.length - 2);
    picture.blend(frames[first], frames[first + 1], exact - first);
  }

  const shareable = () => cars.every(carToText);
  const state = () => ({
    cars: shareable() ? cars.map(carToText).join(",") : undefined,
    method: chosen(root, "method") === "spherical" ? "spherical" : undefined,
    at: position() ? Number(position().toFixed(3)) : undefined,
  });

  /** What the address cannot hold stays in this browser: reloading and going back find it there. */
  const remember = () =>
    writeAddress("interpolate", state(), shareable() ? {} : { cars: cars.map((car) => carToText(car) ?? keptOf(car)) });

  /** Edited cars get into the address as codes, once these are there; photographs only where the visitor says so. */
  const codify = guarded(async () => {
    const path = cars;
    if (path.some(({ own }) => own)) return;
    for (const car of path) if (!carToText(car)) await codeOf(car);
    if (path === cars) remember();
  });

  function renderCars() {
    const last = cars.length - 1;
    const focused = [...parts.stops.children].findIndex((item) => item.contains(document.activeElement));
    parts.stops.replaceChildren(...cars.map((car, i) =>
      make("li", {}, make("button", {
        type: "button",
        "aria-label": `Car ${i + 1}: ${car.name}`,
        "aria-pressed": String(i === selected),
        onclick: () => { pause(); select(i); moveTo(i / last); },
      }, make("img", car.image ? { src: car.image, alt: "" } : { alt: "" })))));
    parts.selected.textContent = `Car ${selected + 1} of ${cars.length}`;
    const stop = (i) => parts.stops.children[i]?.firstChild;
    if (focused >= 0) stop(Math.min(focused, last)).focus();
    if (cars.length <= 2) passFocus(parts.remove, stop(selected));
    parts.remove.disabled = cars.length <= 2;
    if (cars.length >= MOST_CARS) passFocus(parts.add, stop(selected));
    parts.add.disabled = parts.photos.disabled = cars.length >= MOST_CARS;
    parts.private.hidden = !cars.some(({ own }) => own);
  }

  function select(i) {
    selected = i;
    [...parts.stops.children].forEach((item, place) =>
      item.firstChild.setAttribute("aria-pressed", String(place === i)));
    parts.selected.textContent = `Car ${i + 1} of ${cars.length}`;
  }

  function moveTo(place) {
    parts.position.value = place;
    render();
    remember();
  }

  function setCars(next, select = Math.min(selected, next.length - 1)) {
    pause();
    cars = next.slice(0, MOST_CARS);
    selected = Math.min(select, cars.length - 1);
    renderCars();
    remember();
    return Promise.all([load(), codify()]);
  }

  const addCars = (more) => setCars([...cars, ...more], cars.length + more.length - 1);
  const replace = (car) => setCars(cars.map((old, i) => (i === selected ? car : old)));

  function play(turns = Infinity) {
    parts.play.textContent = "Pause";
    let from = position() >= 1 ? 0 : position();
    let started = null;
    const duration = () => LEG_SECONDS * 1000 * (cars.length - 1);
    const tick = (now) => {
      started ??= now;
      const passed = from + (now - started) / duration();
      const turn = Math.floor(passed);
      if (turn >= turns) {
        pause();
        moveTo(1);
        return;
      }
      const place = passed - turn;
      parts.position.value = turn % 2 ? 1 - place : place;
      render();
      player = requestAnimationFrame(tick);
    };
    player = requestAnimationFrame(tick);
  }

  function pause() {
    cancelAnimationFrame(player);
    player = 0;
    parts.play.textContent = "Play";
  }

  parts.position.addEventListener("input", () => { pause(); render(); remember(); });
  parts.play.addEventListener("click", () => {
    if (!player) return play();
    pause();
    render();
    return remember();
  });
  for (const input of root.querySelectorAll("input[name=method]")) {
    input.addEventListener("change", () => { remember(); load(); });
  }
  parts.redraw.addEventListener("click", () => replace(carOf(newDraw())));
  parts.add.addEventListener("click", () => addCars([carOf(newDraw())]));
  parts.remove.addEventListener("click", () => setCars(cars.filter((_, i) => i !== selected)));
  const readCar = carReader(size);
  const takePhotos = (put, options) => guarded(async (files) => {
    const { found, failure } = await readFiles(files, readCar, options);
    if (found.length) await put(found);
    if (failure) throw failure;
  });
  const replaceByPhoto = takePhotos(([car]) => replace(car), { one: true });
  const addPhotos = takePhotos(addCars);
  onChosen(parts.photo, replaceByPhoto);
  onChosen(parts.camera, replaceByPhoto);
  onChosen(parts.photos, addPhotos);

  /** Make a car the first one of the path. */
  const startFrom = guarded(async (car) => {
    const rest = cars.length ? cars.slice(1) : [unchosenCar()];
    parts.position.value = 0;
    await setCars([car, ...rest], 0);
  });

  function unchosenCar() {
    const car = carOf(newDraw());
    unchosen.add(carToText(car));
    return car;
  }

  /** The link says all of the path: whoever asks for it lets its photographs into it. */
  async function link() {
    const path = cars;
    for (const car of path) if (!carToText(car) && !(await shared(car))) return null;
    renderCars();
    remember();
    return addressFor("interpolate", state());
  }
  const film = (format, leg, query) => async () => askFile(await pathRequest(format, stepsFor(leg), query));
  waysOut(parts.out, guarded, {
    name: "cars",
    link,
    picture: (type) => fileOf(picture.still(SAVED_EDGE), type, 0.9),
    saves: [
      { label: "GIF", type: "image/gif", make: film("gif", GIF_LEG, { size: 288 }) },
      { label: "moving WebP", type: "image/webp", make: film("webp", MOVING_LEG, { animate: true, size: 480 }) },
      { label: "moving AVIF", type: "image/avif", make: film("avif", MOVING_LEG, { animate: true, size: 480 }) },
      { label: "filmstrip", type: "image/png", make: film("png", STRIP_LEG, { size: 192 }) },
    ],
  });

  /** The cars that this browser has kept of a path through photographs. */
  const keptCars = ({ cars: list }) =>
    (Array.isArray(list) ? list : []).map((car) => (typeof car === "string" ? carFromText(car) : carOfKept(car, numbers)));

  return {
    /** Bring the panel into the state of an address; without one it stays as it was. */
    show: guarded(async ({ cars: texts, method, at }, kept) => {
      const listed = texts === undefined ? [] : texts.split(",");
      const asked = [...listed.map(carFromText), ...(texts === undefined ? keptCars(kept) : [])].filter(Boolean);
      const isSound = (texts === undefined || asked.length === listed.length) && listed.length !== 1 && listed.length <= MOST_CARS
        && [undefined, "linear", "spherical"].includes(method) && (Number(at ?? 0) >= 0 && Number(at ?? 0) <= 1);
      if (!isSound) sayDamaged();
      const next = asked.length < 2 && !cars.length
        ? [...asked, ...DEFAULT.split(",").map(carFromText).slice(asked.length)]
        : asked;
      if (method) choose(root, "method", method === "spherical" ? "spherical" : "linear");
      const place = Math.min(Math.max(Number(at) || 0, 0), 1);
      if (next.length < 2) {
        remember();
        render();
        return;
      }
      parts.position.value = place;
      await setCars(next.slice(0, MOST_CARS), 0);
      if (!texts && !asked.length && !matchMedia("(prefers-reduced-motion: reduce)").matches) play(1);
    }),
    hide: pause,
    receive: addPhotos,
    /** Make a car the last one of the path. */
    add: guarded(async (car) => {
      if (cars.length >= MOST_CARS) {
        remember();
        return say(`The path has ${MOST_CARS} cars, which is the most.`, 8);
      }
      const path = cars.length > 2 ? cars : cars.filter((each) => !unchosen.has(carToText(each)));
      if (!path.length) return startFrom(car);
      parts.position.value = 1;
      return setCars([...path, car], path.length);
    }),
    startFrom,
    /** Take a path through these cars. */
    through: guarded(async (list) => {
      parts.position.value = 0;
      await setCars(list, 0);
    }),
  };
}
