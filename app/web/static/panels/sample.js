// A wall of cars that the model makes up.
import { addressFor, writeAddress } from "../address.js";
import { ask } from "../api.js";
import { newSeed, sampleRequest, sampledCar } from "../cars.js";
import { choose, chosen, copy, fill, latestOnly, make, partsOf } from "../dom.js";
import { requestView } from "../request.js";

const CARS = 24;

export function samplePanel(root, context) {
  const parts = partsOf(root);
  const showRequest = requestView(parts.request, "sample");
  const guarded = context.guarded(parts.problem);
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
    const request = sampleRequest(drawn, count);
    showRequest(request);
    const answer = await ask(request);
    cars = answer.images.map((_, index) => sampledCar(answer, { ...drawn, index }));
    renderWall();
  }));

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

  function changed() {
    fill(parts.temperature);
    parts.degree.textContent = Number(parts.temperature.value).toFixed(2);
    if (!parts.seed.checkValidity()) return;
    writeAddress("sample", state());
    load();
  }

  parts.redraw.addEventListener("click", () => {
    parts.seed.value = newSeed();
    changed();
  });
  for (const input of root.querySelectorAll(".bar input")) input.addEventListener("input", changed);
  parts.link.addEventListener("click", () => copy(addressFor("sample", state()), "Link copied."));

  return {
    show({ seed, temperature, prior }) {
      if (seed !== undefined || !parts.seed.value) parts.seed.value = seed ?? newSeed();
      if (!parts.seed.checkValidity()) parts.seed.value = newSeed();
      if (temperature !== undefined) parts.temperature.value = temperature;
      if (prior !== undefined) choose(root, "prior", prior === "standard" ? "standard" : "fitted");
      changed();
    },
  };
}
