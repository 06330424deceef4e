// Two or more cars and the way between them: all frames come in one request, the slider moves among them.
import { addressFor, writeAddress } from "../address.js";
import { ask, send } from "../api.js";
import { carOfPhoto, drawCars, drawFromText, drawToText, newDraw } from "../cars.js";
import { choose, chosen, copy, fill, latestOnly, make, partsOf } from "../dom.js";
import { download, onChosen } from "../files.js";
import { Picture, loadImage } from "../picture.js";
import { requestView } from "../request.js";

const MOST_CARS = 16;
const MOST_FRAMES = 64;
const LEG = 32;
const GIF_LEG = 16;
const STRIP_LEG = 6;
const LEG_SECONDS = 1.8;
const DEFAULT = "28-0,48-0";

export function interpolatePanel(root, context) {
  const parts = partsOf(root);
  const picture = new Picture(parts.picture);
  const showRequest = requestView(parts.request, "interpolate");
  const guarded = context.guarded(parts.problem);
  let cars = [];
  let frames = [];
  let selected = 0;
  let player = 0;

  const position = () => Number(parts.position.value);

  /** The request for frames, `leg` from each car to the next at most: every car is a frame itself. */
  function pathRequest(leg, query) {
    const legs = cars.length - 1;
    const steps = Math.max(1, Math.min(leg, Math.floor((MOST_FRAMES - 1) / legs))) * legs + 1;
    const latents = cars.map(({ latent }) => latent);
    return {
      method: "POST",
      path: "interpolate",
      query,
      json: { latents, steps, method: chosen(root, "method"), model: context.model.id },
    };
  }

  const load = latestOnly(guarded(async () => {
    const request = pathRequest(LEG, { format: "json" });
    showRequest(request);
    const { images } = await ask(request);
    frames = await Promise.all(images.map(loadImage));
    render();
  }));

  function render() {
    fill(parts.position);
    const place = position() * (cars.length - 1);
    const before = Math.min(Math.floor(place), cars.length - 2);
    const percent = Math.round(100 * (place - before));
    parts.position.setAttribute("aria-valuetext", `${percent} % of the way from car ${before + 1} to car ${before + 2}`);
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
    parts.stops.replaceChildren(...cars.map((car, i) =>
      make("li", {}, make("button", {
        type: "button",
        "aria-label": `Car ${i + 1}: ${car.name}`,
        "aria-pressed": String(i === selected),
        onclick: () => { stop(); select(i); moveTo(i / last); },
      }, make("img", { src: car.image, alt: "" })))));
    parts.selected.textContent = `Car ${selected + 1} of ${cars.length}`;
    parts.remove.disabled = cars.length <= 2;
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
    stop();
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
        stop();
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

  function stop() {
    cancelAnimationFrame(player);
    player = 0;
    parts.play.textContent = "Play";
  }

  parts.position.addEventListener("input", () => { stop(); render(); writeAddress("interpolate", state()); });
  parts.play.addEventListener("click", () => {
    if (!player) return play();
    stop();
    return writeAddress("interpolate", state());
  });
  for (const input of root.querySelectorAll("input[name=method]")) {
    input.addEventListener("change", () => { writeAddress("interpolate", state()); load(); });
  }
  parts.redraw.addEventListener("click", guarded(async () => replace((await drawCars([newDraw()]))[0])));
  parts.add.addEventListener("click", guarded(async () => addCars(await drawCars([newDraw()]))));
  parts.remove.addEventListener("click", () => setCars(cars.filter((_, i) => i !== selected)));
  onChosen(parts.photo, guarded(async ([file]) => replace(await carOfPhoto(file))));
  const addPhotos = guarded(async (files) => addCars(await Promise.all(files.map(carOfPhoto))));
  onChosen(parts.photos, addPhotos);
  parts.gif.addEventListener("click", guarded(async () => {
    const answer = await send(pathRequest(GIF_LEG, { format: "gif", size: 288 }));
    download(await answer.blob(), "cars.gif");
  }));
  parts.strip.addEventListener("click", guarded(async () => {
    const answer = await send(pathRequest(STRIP_LEG, { format: "png", size: 192 }));
    download(await answer.blob(), "cars.png");
  }));
  parts.link.addEventListener("click", () => copy(addressFor("interpolate", state()), "Link copied."));

  return {
    /** Bring the panel into the state of an address; without one it stays as it was. */
    show: guarded(async ({ cars: texts, method, at }) => {
      const draws = (texts ?? (cars.length ? "" : DEFAULT)).split(",").map(drawFromText).filter(Boolean);
      if (method) choose(root, "method", method === "spherical" ? "spherical" : "linear");
      const place = Math.min(Math.max(Number(at) || 0, 0), 1);
      if (draws.length < 2) {
        writeAddress("interpolate", state());
        render();
        return;
      }
      const before = cars;
      const drawn = await drawCars(draws.slice(0, MOST_CARS));
      if (cars !== before) return; // others were chosen meanwhile
      parts.position.value = place;
      await setCars(drawn, 0);
      if (!texts && !matchMedia("(prefers-reduced-motion: reduce)").matches) play(1);
    }),
    hide: stop,
    receive: addPhotos,
    /** Make a car the first one of the path. */
    startFrom: guarded(async (car) => {
      const rest = cars.length ? cars.slice(1) : await drawCars([newDraw()]);
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
