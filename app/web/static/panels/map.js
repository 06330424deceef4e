// Drawn cars laid out by what they look like: one picture to wander over, and a button for each car.
import { sayDamaged, writeAddress } from "../address.js";
import { askFile } from "../api.js";
import { carOf } from "../cars.js";
import { make, partsOf } from "../dom.js";
import { penOf } from "../picture.js";
import { Problem } from "../problems.js";
import { urlOf } from "../strips.js";

/** Pixels of a car's width at each zoom. */
const CELLS = [40, 56, 80, 112, 160, 240];
const FIRST_ZOOM = 2;
const CLICK = 6;
const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export function mapPanel(root, context) {
  const { map, image_size: size } = context.model;
  if (!map) return { show() {} };
  const parts = partsOf(root);
  const guarded = context.guardFor(parts.problem);
  const columns = map.seeds[0].length;
  const seeds = map.seeds.flat();
  const nameOf = (i) => `Car ${i + 1}`;
  const sheet = make("canvas", { width: columns * size.width, height: map.seeds.length * size.height, "aria-hidden": "true" });
  const cells = seeds.map((_, i) => make("button", { type: "button", tabIndex: -1, "aria-label": nameOf(i) }));
  const rows = map.seeds.map((row, y) => make("div", { role: "row" },
    ...row.map((_, x) => make("div", { role: "gridcell" }, cells[y * columns + x]))));
  const grid = make("div", { role: "grid", "aria-label": `${seeds.length} drawn cars`, "aria-describedby": "map-keys" }, sheet, ...rows);
  grid.style.setProperty("--columns", columns);
  parts.map.append(grid);
  let zoom = FIRST_ZOOM;
  let current = Math.floor(seeds.length / 2 + columns / 2);
  let loading = null;
  let isDrag = false;

  const load = guarded(async () => {
    loading ??= askFile({ method: "GET", path: map.url });
    const file = await loading.catch((error) => { loading = null; throw error; });
    const bitmap = await createImageBitmap(file).catch(() => { throw new Problem("picture"); });
    if (bitmap.width !== sheet.width || bitmap.height !== sheet.height) throw new Problem("picture");
    penOf(sheet).drawImage(bitmap, 0, 0);
    bitmap.close();
    sheet.dataset.drawn = "";
  });

  /** Make a car the one that Tab leads to. */
  function choose(i) {
    cells[current].tabIndex = -1;
    current = i;
    cells[current].tabIndex = 0;
    parts.place.textContent = `${nameOf(i)} of ${seeds.length}`;
    writeAddress("map", { at: i + 1 });
  }

  /** Bring a car into the middle. */
  function centre(i, behavior = "auto") {
    const { offsetLeft, offsetTop } = cells[i].parentElement;
    const { clientWidth, clientHeight } = parts.map;
    parts.map.scrollTo({
      left: offsetLeft - (clientWidth - cells[i].offsetWidth) / 2,
      top: offsetTop - (clientHeight - cells[i].offsetHeight) / 2,
      behavior,
    });
  }

  /** Zoom, with what is at a place of the window (its middle unless given) staying there. */
  function zoomTo(next, place) {
    const box = parts.map;
    const { left, top } = box.getBoundingClientRect();
    const x = place ? place.clientX - left : box.clientWidth / 2;
    const y = place ? place.clientY - top : box.clientHeight / 2;
    const before = grid.offsetWidth || 1;
    zoom = Math.min(CELLS.length - 1, Math.max(0, next));
    grid.style.setProperty("--cell", `${CELLS[zoom]}px`);
    const scale = grid.offsetWidth / before;
    box.scrollTo(scale * (box.scrollLeft + x) - x, scale * (box.scrollTop + y) - y);
    parts.out.disabled = zoom === 0;
    parts.in.disabled = zoom === CELLS.length - 1;
  }

  const isDrawn = () => "drawn" in sheet.dataset;

  /** Open a car, as soon as there is a picture of it. */
  async function pick(i) {
    choose(i);
    if (!isDrawn()) await load();
    if (!isDrawn()) return;
    const canvas = make("canvas", size);
    const from = [(i % columns) * size.width, Math.floor(i / columns) * size.height];
    penOf(canvas).drawImage(sheet, ...from, size.width, size.height, 0, 0, size.width, size.height);
    context.openCar(carOf({ seed: seeds[i], index: 0, temperature: 1, prior: "fitted" }, urlOf(canvas)));
  }

  grid.addEventListener("click", ({ target }) => {
    const i = cells.indexOf(target);
    if (i >= 0 && !isDrag) pick(i);
  });
  grid.addEventListener("focusin", ({ target }) => {
    const i = cells.indexOf(target);
    if (i >= 0) choose(i);
  });
  grid.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "-") zoomTo(zoom + (event.key === "+" ? 1 : -1));
    else if (!KEYS[event.key]) return;
    else {
      const [down, across] = KEYS[event.key];
      const [y, x] = [Math.floor(current / columns) + down, (current % columns) + across];
      if (y < 0 || x < 0 || y >= map.seeds.length || x >= columns) return event.preventDefault();
      cells[y * columns + x].focus({ preventScroll: true });
    }
    event.preventDefault();
    centre(current);
    cells[current].scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  parts.in.addEventListener("click", () => zoomTo(zoom + 1));
  parts.out.addEventListener("click", () => zoomTo(zoom - 1));
  parts.any.addEventListener("click", () => {
    choose(Math.floor(Math.random() * seeds.length));
    centre(current, "smooth");
  });
  parts.map.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomTo(zoom + (event.deltaY < 0 ? 1 : -1), event);
  }, { passive: false });
  dragToScroll(parts.map, (is) => { isDrag = is; });
  pinch(parts.map, (step, place) => zoomTo(zoom + step, place));

  return {
    show({ at }) {
      const asked = at === undefined ? current : Number(at) - 1;
      const isSound = Number.isInteger(asked) && asked >= 0 && asked < seeds.length;
      if (!isSound) sayDamaged();
      zoomTo(zoom);
      choose(isSound ? asked : current);
      centre(current);
      if (!isDrawn()) load();
    },
  };
}

/** A mouse drags what a finger scrolls. `dragging` is told when it has gone far enough to be no click. */
function dragToScroll(box, dragging) {
  let from = null;
  box.addEventListener("pointerdown", (event) => {
    dragging(false);
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    from = { x: event.clientX, y: event.clientY, left: box.scrollLeft, top: box.scrollTop };
  });
  addEventListener("pointermove", (event) => {
    if (!from) return;
    const [across, down] = [event.clientX - from.x, event.clientY - from.y];
    if (!box.classList.contains("dragged") && Math.hypot(across, down) < CLICK) return;
    box.classList.add("dragged");
    dragging(true);
    box.scrollTo(from.left - across, from.top - down);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    addEventListener(kind, () => {
      from = null;
      box.classList.remove("dragged");
    });
  }
}

/** Two fingers zoom, a step each time their distance has changed by half. */
function pinch(box, zoom) {
  const PART = 1.4;
  let apart = 0;
  const distance = ([one, other]) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  box.addEventListener("touchstart", ({ touches }) => { apart = touches.length === 2 ? distance(touches) : 0; }, { passive: true });
  box.addEventListener("touchmove", (event) => {
    const { touches } = event;
    if (touches.length !== 2 || !apart) return;
    event.preventDefault();
    const now = distance(touches);
    if (now < apart * PART && now > apart / PART) return;
    const [one, other] = touches;
    zoom(now > apart ? 1 : -1, { clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 });
    apart = now;
  }, { passive: false });
}
