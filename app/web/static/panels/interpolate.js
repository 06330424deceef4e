// Two or more cars and the way between them: all frames come in one request, the slider moves among them.
import { addressFor, sayDamaged, writeAddress } from "../address.js";
import { askFile } from "../api.js";
import { carOf, carOfPhoto, drawFromText, drawToText, isOfSeed, latentOf, newDraw } from "../cars.js";
import { choose, chosen, copy, fill, latestOnly, make, partsOf, passFocus } from "../dom.js";
import { download, onChosen } from "../files.js";
import { Picture } from "../picture.js";
import { requestView } from "../request.js";
import { mostInRow, pictures, urlOf } from "../strips.js";

const MOST_CARS = 16;
const MOST_FRAMES = 64;
const LEG = 32;
const GIF_LEG = 16;
const STRIP_LEG = 6;
const LEG_SECONDS = 1.8;
const DEFAULT = "28-0,48-0";

export function interpolatePanel(root, context) {
  const { id, image_size: size } = context.model;
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "interpolate");
  const guarded = context.guardFor(parts.problem);
  let cars = [];
  let frames = [];
  let selected = 0;
  let player = 0;

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

  const shareable = () => cars.every(({ draw }) => draw);
  const state = () => ({
    cars: shareable() ? cars.map(({ draw }) => drawToText(draw)).join(",") : undefined,
    method: chosen(root, "method") === "spherical" ? "spherical" : undefined,
    at: position() ? Number(position().toFixed(3)) : undefined,
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
    parts.link.hidden = !shareable();
    parts.private.hidden = shareable();
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
    writeAddress("interpolate", state());
  }

  function setCars(next, select = Math.min(selected, next.length - 1)) {
    pause();
    cars = next.slice(0, MOST_CARS);
    selected = Math.min(select, cars.length - 1);
    renderCars();
    writeAddress("interpolate", state());
    return load();
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

  parts.position.addEventListener("input", () => { pause(); render(); writeAddress("interpolate", state()); });
  parts.play.addEventListener("click", () => {
    if (!player) return play();
    pause();
    render();
    return writeAddress("interpolate", state());
  });
  for (const input of root.querySelectorAll("input[name=method]")) {
    input.addEventListener("change", () => { writeAddress("interpolate", state()); load(); });
  }
  parts.redraw.addEventListener("click", () => replace(carOf(newDraw())));
  parts.add.addEventListener("click", () => addCars([carOf(newDraw())]));
  parts.remove.addEventListener("click", () => setCars(cars.filter((_, i) => i !== selected)));
  onChosen(parts.photo, guarded(async ([file]) => replace(await carOfPhoto(file, size))));
  const addPhotos = guarded(async (files) => addCars(await Promise.all(files.map((file) => carOfPhoto(file, size)))));
  onChosen(parts.photos, addPhotos);
  parts.gif.addEventListener("click", guarded(async () => {
    download(await askFile(await pathRequest("gif", stepsFor(GIF_LEG), { size: 288 })), "cars.gif");
  }));
  parts.strip.addEventListener("click", guarded(async () => {
    download(await askFile(await pathRequest("png", stepsFor(STRIP_LEG), { size: 192 })), "cars.png");
  }));
  parts.link.addEventListener("click", () => copy(addressFor("interpolate", state()), "Link copied."));

  return {
    /** Bring the panel into the state of an address; without one it stays as it was. */
    show: guarded(async ({ cars: texts, method, at }) => {
      const listed = texts === undefined ? [] : texts.split(",");
      const asked = listed.map(drawFromText).filter(Boolean);
      const isSound = asked.length === listed.length && listed.length !== 1 && listed.length <= MOST_CARS
        && [undefined, "linear", "spherical"].includes(method) && (Number(at ?? 0) >= 0 && Number(at ?? 0) <= 1);
      if (!isSound) sayDamaged();
      const draws = asked.length < 2 && !cars.length
        ? [...asked, ...DEFAULT.split(",").map(drawFromText).slice(asked.length)]
        : asked;
      if (method) choose(root, "method", method === "spherical" ? "spherical" : "linear");
      const place = Math.min(Math.max(Number(at) || 0, 0), 1);
      if (draws.length < 2) {
        writeAddress("interpolate", state());
        render();
        return;
      }
      parts.position.value = place;
      await setCars(draws.slice(0, MOST_CARS).map((draw) => carOf(draw)), 0);
      if (!texts && !matchMedia("(prefers-reduced-motion: reduce)").matches) play(1);
    }),
    hide: pause,
    receive: addPhotos,
    /** Make a car the first one of the path. */
    startFrom: guarded(async (car) => {
      const rest = cars.length ? cars.slice(1) : [carOf(newDraw())];
      parts.position.value = 0;
      await setCars([car, ...rest], 0);
    }),
    /** Take a path through these cars. */
    through: guarded(async (list) => {
      parts.position.value = 0;
      await setCars(list, 0);
    }),
  };
}
