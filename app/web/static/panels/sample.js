// A wall of cars that the model makes up.
import { addressFor, sayDamaged, writeAddress } from "../address.js";
import { carOf, newSeed, sampleRequest } from "../cars.js";
import { choose, chosen, copy, fill, latestOnly, make, partsOf, pauses } from "../dom.js";
import { requestView } from "../request.js";
import { columnsOf, pictures, urlOf } from "../strips.js";

const CARS = 24;

export function samplePanel(root, context) {
  const parts = partsOf(root);
  const showRequest = requestView(parts.request, "sample");
  const guarded = context.guardFor(parts.problem);
  const count = Math.min(CARS, context.model.max_items);
  let cars = [];

  const draw = () => ({
    seed: Number(parts.seed.value),
    temperature: Number(parts.temperature.value),
    prior: chosen(root, "prior"),
  });

  const state = () => {
    const { seed, temperature, prior } = draw();
    return {
      seed,
      temperature: temperature === 1 ? undefined : temperature,
      prior: prior === "standard" ? prior : undefined,
    };
  };

  const load = latestOnly(guarded(async () => {
    const drawn = draw();
    const request = sampleRequest("webp", drawn, count);
    showRequest(request);
    const sheet = await pictures(request, count, columnsOf(count), context.model.image_size);
    cars = sheet.map((canvas, index) => carOf({ ...drawn, index }, urlOf(canvas)));
    renderWall();
  }));
  const paused = pauses();
  const loadAtRest = guarded(async () => { if (await paused()) load(); });

  /** Tiles stay the elements they are: whoever is on one with the keyboard stays there. */
  function renderWall() {
    while (parts.wall.children.length < cars.length) {
      const index = parts.wall.children.length;
      parts.wall.append(make("li", {}, make("button", {
        type: "button",
        onclick: () => context.openCar(cars[index]),
      }, make("img"))));
    }
    cars.forEach((car, index) => {
      Object.assign(parts.wall.children[index].firstChild.firstChild, { src: car.image, alt: car.name });
    });
  }

  function changed(reload = load) {
    fill(parts.temperature);
    parts.degree.textContent = Number(parts.temperature.value).toFixed(2);
    if (!parts.seed.checkValidity()) return;
    writeAddress("sample", state());
    reload();
  }

  parts.redraw.addEventListener("click", () => {
    parts.seed.value = newSeed();
    changed();
  });
  for (const input of root.querySelectorAll(".bar input")) input.addEventListener("input", () => changed(loadAtRest));
  parts.link.addEventListener("click", () => copy(addressFor("sample", state()), "Link copied."));

  return {
    show({ seed, temperature, prior }) {
      if (seed !== undefined || !parts.seed.value) parts.seed.value = seed ?? newSeed();
      const isSeed = parts.seed.checkValidity();
      if (!isSeed) parts.seed.value = newSeed();
      const isWarm = temperature === undefined || (Number(temperature) >= 0 && Number(temperature) <= 2);
      if (!isWarm) parts.temperature.value = 1;
      else if (temperature !== undefined) parts.temperature.value = temperature;
      if (!isSeed || !isWarm || ![undefined, "fitted", "standard"].includes(prior)) sayDamaged();
      if (prior !== undefined) choose(root, "prior", prior === "standard" ? "standard" : "fitted");
      changed();
    },
  };
}
