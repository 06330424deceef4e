// The cars the visitor keeps: they stay in this browser, for as long as the service runs the model they are of.
import { drawFromText, drawToText } from "./cars.js";
import { find, make, partsOf, passFocus, say } from "./dom.js";
import { isPictureUrl } from "./files.js";
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
    this.#store.onChange(() => this.#render(this.#read()));
    this.#render(this.#read());
  }

  has = (car) => this.#cars.some((kept) => same(kept, car));

  /** Keep a car, in place of the oldest where there are many. */
  add(car) {
    if (!this.has(car)) this.#write([...this.#read(), car].slice(-MOST), "Kept, at the foot of the page.");
  }

  remove(car) {
    this.#write(this.#read().filter((kept) => !same(kept, car)), "Kept no longer.");
  }

  /** What is stored now, by whichever tab; what means nothing there is dropped, and that is said. */
  #read() {
    const text = this.#store.read();
    if (text === null) return [];
    const kept = parsed(text);
    if (typeof kept?.model === "string" && kept.model !== this.#model.id) return [];
    const all = Array.isArray(kept?.cars) ? kept.cars : [null];
    const cars = all.filter((car) => isCar(car, this.#model.latent_dim)).slice(-MOST);
    if (cars.length < all.length) {
      this.#store.write(JSON.stringify({ model: this.#model.id, cars }));
      say("Some of the kept cars were damaged, and are gone.", 8);
    }
    return cars;
  }

  #write(cars, done) {
    const isStored = this.#store.write(JSON.stringify({ model: this.#model.id, cars }));
    this.#render(cars);
    if (isStored) say(done);
    else say("The browser stores nothing here: the cars are kept until this page is closed.", 8);
  }

  #render(cars) {
    const buttons = () => [...this.#parts.cars.querySelectorAll("button")];
    const focused = buttons().indexOf(document.activeElement);
    this.#cars = cars;
    if (cars.length < 2) passFocus(this.#parts.through, ...document.querySelectorAll("h1"));
    this.#root.hidden = cars.length === 0;
    this.#parts.through.hidden = cars.length < 2;
    this.#parts.cars.replaceChildren(...cars.map((car) =>
      make("li", {}, make("button", { type: "button", onclick: () => this.#open(car) },
        make("img", { src: car.image, alt: car.name })))));
    if (focused < 0) return;
    const next = buttons()[Math.min(focused, cars.length - 1)];
    (next ?? document.querySelector(".panel:not([hidden]) h1")).focus();
  }
}

const same = (one, other) =>
  one.draw && other.draw ? drawToText(one.draw) === drawToText(other.draw) : one.image === other.image;

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isCar(car, numbers) {
  if (typeof car?.name !== "string" || !isPictureUrl(car.image)) return false;
  if (car.photo !== undefined && !isPictureUrl(car.photo)) return false;
  if (car.draw && !drawFromText(drawToText(car.draw))) return false;
  const { latent } = car;
  return latent ? Array.isArray(latent) && latent.length === numbers && latent.every(Number.isFinite) : Boolean(car.draw);
}
