// The cars the visitor keeps: they stay in this browser, for as long as the service runs the model they are of.
import { find, make, partsOf } from "./dom.js";
import { stored } from "./storage.js";

const MOST = 16;

export class Garage {
  #cars = [];
  #model;
  #open;
  #store = stored("localStorage", "car-vae kept");
  #root = find("garage");
  #parts = partsOf(this.#root);

  /** `open` is called with a car that is clicked, `through` with all of them. */
  constructor(model, open, through) {
    this.#model = model;
    this.#open = open;
    this.#parts.through.addEventListener("click", () => through([...this.#cars]));
    const kept = JSON.parse(this.#store.read() ?? "null");
    if (kept?.model === model) this.#cars = kept.cars;
    this.#render();
  }

  has = (car) => this.#cars.some((kept) => same(kept, car));

  /** Keep a car, in place of the oldest where there are many. */
  add(car) {
    if (this.has(car)) return;
    this.#cars = [...this.#cars, car].slice(-MOST);
    this.#changed();
  }

  remove(car) {
    this.#cars = this.#cars.filter((kept) => !same(kept, car));
    this.#changed();
  }

  #changed() {
    this.#store.write(JSON.stringify({ model: this.#model, cars: this.#cars }));
    this.#render();
  }

  #render() {
    this.#root.hidden = this.#cars.length === 0;
    this.#parts.through.hidden = this.#cars.length < 2;
    this.#parts.cars.replaceChildren(...this.#cars.map((car) =>
      make("li", {}, make("button", { type: "button", onclick: () => this.#open(car) },
        make("img", { src: car.image, alt: car.name })))));
  }
}

const same = (one, other) => one.image === other.image;
