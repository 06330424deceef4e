// Puts the page together: the model's facts, the panels, and the way from one to another.
import { addressFor, keptState, readAddress, sayDamaged, setServed } from "./address.js";
import { ask, onKeyNeeded } from "./api.js";
import { carDialog, keyDialog } from "./dialogs.js";
import { find } from "./dom.js";
import { asProblem, guardFor } from "./failures.js";
import { onFiles } from "./files.js";
import { Garage } from "./garage.js";
import { compressPanel } from "./panels/compress.js";
import { editPanel } from "./panels/edit.js";
import { interpolatePanel } from "./panels/interpolate.js";
import { mapPanel } from "./panels/map.js";
import { reconstructPanel } from "./panels/reconstruct.js";
import { samplePanel } from "./panels/sample.js";
import { stored } from "./storage.js";

const MAKERS = {
  compress: compressPanel,
  interpolate: interpolatePanel,
  sample: samplePanel,
  edit: editPanel,
  reconstruct: reconstructPanel,
  map: mapPanel,
};

function start(model) {
  showFacts(model);
  setServed(model);
  const showCar = carDialog(guardFor);
  const makers = Object.entries(MAKERS).filter(([name]) => (name !== "compress" || model.codes) && (name !== "map" || model.map));
  const [[first]] = makers;
  const panels = {};
  let shown = null;

  const openCar = guardedPage(async (car) => {
    const choice = await showCar(car, garage.has(car));
    if (choice === "interpolate") context.startFrom(car);
    if (choice === "add") context.addToPath(car);
    if (choice === "edit") context.edit(car);
    if (choice !== "keep") return;
    if (garage.has(car)) garage.remove(car);
    else garage.add(car);
  });

  const garage = new Garage(model, openCar, (cars) => context.interpolate(cars));
  const context = {
    model,
    garage,
    guardFor,
    openCar,
    interpolate: (cars) => { go("interpolate"); return panels.interpolate.through(cars); },
    addToPath: (car) => { go("interpolate"); return panels.interpolate.add(car); },
    startFrom: (car) => { go("interpolate"); return panels.interpolate.startFrom(car); },
    edit: (car) => { go("edit"); return panels.edit.take(car); },
  };

  /** Show a panel without asking for anything new in it. */
  function go(name) {
    if (name !== shown) history.pushState(null, "", addressFor(name, {}));
    reveal(name);
    scrollTo(0, 0);
  }

  function reveal(name) {
    if (shown && shown !== name) panels[shown]?.hide?.();
    const isMove = shown !== null && shown !== name;
    shown = name;
    for (const panel of document.querySelectorAll(".panel")) panel.hidden = panel.id !== `panel-${name}`;
    for (const link of document.querySelectorAll(".tabs a")) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const title = find(`title-${name}`);
    document.title = `${title.textContent} · car-vae`;
    if (isMove) title.focus({ preventScroll: true });
  }

  function follow() {
    const { panel, values } = readAddress();
    const name = Object.hasOwn(panels, panel) ? panel : first;
    if (name !== panel) {
      history.replaceState(null, "", addressFor(name, {}));
      if (panel) sayDamaged();
    }
    if (isForeign(name, values)) return reveal("foreign");
    reveal(name);
    return panels[name].show(values, keptState(name));
  }

  /** Seeds and latents mean other cars to another model. A code alone says itself of which it is. */
  function isForeign(name, { model: other, code }) {
    if (other === undefined || other === model.id || (name === "compress" && code)) return false;
    const texts = { "[data-other]": other, "[data-served]": model.id };
    for (const [which, text] of Object.entries(texts)) find("panel-foreign").querySelector(which).textContent = text;
    find("foreign-way").href = addressFor(name, {});
    return true;
  }

  for (const [name, makePanel] of makers) panels[name] = makePanel(find(`panel-${name}`), context);
  onFiles((files) => {
    if (!panels[shown]?.receive) go("reconstruct");
    panels[shown].receive(files);
  });
  for (const link of document.querySelectorAll("[data-codes]")) link.hidden = !model.codes;
  find("tab-map").hidden = !model.map;
  // To what is shown: the address of the page says which panel that is.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    find(`title-${shown}`).focus();
  });
  addEventListener("popstate", follow); // not hashchange: the address of a car has none
  follow();
}

function showFacts({ id, image_size: { width, height }, latent_dim: numbers, parameters, provider, metrics }) {
  document.documentElement.style.setProperty("--ratio", `${width} / ${height}`);
  for (const place of document.querySelectorAll("[data-fact=latent]")) place.textContent = String(numbers);
  const device = provider.replace("ExecutionProvider", "");
  const facts = [
    id,
    `${width} × ${height} pixels`,
    `${numbers} numbers a car`,
    `${(parameters / 1e6).toFixed(1)} million parameters`,
    `runs on ${device === "CUDA" ? "a GPU (CUDA)" : `the ${device}`}`,
  ];
  if (metrics.psnr) facts.push(`${metrics.psnr.toFixed(1)} dB on cars it has never seen`);
  find("facts").textContent = facts.join(" · ");
}

function themeButton() {
  const button = find("theme");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    button.setAttribute("aria-pressed", String(isDark()));
    const ground = getComputedStyle(document.body).backgroundColor;
    for (const meta of document.querySelectorAll('meta[name="theme-color"]')) meta.content = ground;
    stored("localStorage", "car-vae theme").write(root.dataset.theme);
  });
}

// The page's own address changes, also to another folder; where these lead does not.
for (const link of document.querySelectorAll('a:not([href^="#"]), link[rel="icon"], link[rel="apple-touch-icon"]')) {
  link.setAttribute("href", link.href);
}
onKeyNeeded(keyDialog());
themeButton();
const guardedPage = guardFor(find("failure"));
for (const kind of ["error", "unhandledrejection"]) {
  addEventListener(kind, (event) => {
    const error = event.reason ?? event.error;
    if (!error) return;
    event.preventDefault();
    let isNew = true;
    guardedPage(() => {
      if (!isNew) return;
      isNew = false;
      throw asProblem(error);
    })();
  });
}
await guardedPage(async () => start(await ask({ method: "GET", path: "model" })))();
