// Short ways to find and make elements, and to tell the visitor something.

const PAUSE = 200;

export const find = (id) => document.getElementById(id);

/** The elements of a panel or dialog that have a data-part, by its name in camel case. */
export function partsOf(root) {
  const parts = {};
  for (const element of root.querySelectorAll("[data-part]")) {
    parts[element.dataset.part.replace(/-(.)/g, (_, letter) => letter.toUpperCase())] = element;
  }
  return parts;
}

/** A new element: properties, attributes (where there is no such property), listeners (on…), children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Where an element that has the focus is about to go: give it to the first of `others` that can take it. */
export function passFocus(element, ...others) {
  if (document.activeElement !== element) return;
  others.find((other) => other && !other.disabled && other.getClientRects().length)?.focus();
}

let clearing = 0;

/** Say something in passing, also to screen readers. */
export function say(text, seconds = 4) {
  const notice = find("notice");
  // Beside an open dialog nothing is read, or seen.
  (document.querySelector("dialog[open]") ?? document.body).append(notice);
  notice.textContent = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => { notice.textContent = ""; }, seconds * 1000);
}

/** Fill a slider's track up to its thumb, from where its value is `zero`. */
export function fill(slider, zero = Number(slider.min)) {
  const share = (value) => `${(100 * (value - slider.min)) / (slider.max - slider.min)}%`;
  slider.style.setProperty("--fill", share(slider.value));
  slider.style.setProperty("--zero", share(zero));
}

/** What a radio group of a panel is set to. */
export const chosen = (root, name) => root.querySelector(`input[name="${name}"]:checked`).value;

export function choose(root, name, value) {
  for (const input of root.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
}

/**
 * Make `task` run once at a time: while it runs, only the newest of the calls that come in is kept for afterwards.
 * Whatever asks for something has one request on its way so, and ends with what was asked last.
 */
export function latestOnly(task) {
  let running = false;
  let waiting = null;
  return async (...values) => {
    waiting = values;
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const next = waiting;
        waiting = null;
        await task(...next);
      }
    } finally {
      running = false;
    }
  };
}

/** A function that answers, when calls to it have paused, true to the last one, and false to those before it. */
export function pauses() {
  let last = 0;
  return async () => {
    const own = (last += 1);
    await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    return own === last;
  };
}

export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    say("The browser does not allow copying here; select the text and copy it by hand.");
  }
}
