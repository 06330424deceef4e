// The two dialogs: what to do with a car, and the API key.
import { currentKey, setKey } from "./api.js";
import { shared } from "./cars.js";
import { find, partsOf, passFocus, say } from "./dom.js";
import { fileOf } from "./files.js";
import { Picture, SAVED_EDGE, loadImage } from "./picture.js";
import { waysOut } from "./sharing.js";

/** The function it gives shows a car and answers what the visitor chose: interpolate, edit, keep, or nothing. */
export function carDialog(guardFor) {
  const dialog = find("car");
  const parts = partsOf(dialog);
  const picture = new Picture(parts.picture);
  const guarded = guardFor(parts.problem);
  let shownCar = null;
  waysOut(parts.out, guarded, {
    name: "car",
    holds: true,
    link: () => shared(shownCar),
    picture: (type) => fileOf(picture.still(SAVED_EDGE), type, 0.9),
  });
  return async (car, isKept) => {
    shownCar = car;
    parts.name.textContent = car.name;
    parts.keep.textContent = isKept ? "Keep it no longer" : "Keep it";
    picture.show(await loadImage(car.image));
    return dialog.open ? "" : shown(dialog);
  };
}

/** The function it gives asks for a key unless there is a newer one than the one that was refused. */
export function keyDialog() {
  const dialog = find("key");
  const parts = partsOf(dialog);
  const forget = find("forget-key");
  let asking = null;
  forget.addEventListener("click", () => {
    setKey(null);
    passFocus(forget, find("theme"));
    forget.hidden = true;
    say("The key is forgotten.");
  });
  forget.hidden = currentKey() === null;

  async function askOnce(refused) {
    parts.reason.textContent = refused ? "The key that was sent is not known to it." : "Whoever runs it can give you one.";
    parts.key.value = "";
    if ((await shown(dialog)) !== "use" || !parts.key.value.trim()) return false;
    setKey(parts.key.value.trim());
    forget.hidden = false;
    return true;
  }

  return async (refused) => {
    if (currentKey() !== refused) return true;
    asking ??= askOnce(refused).finally(() => { asking = null; });
    return asking;
  };
}

const unanswered = new Map();

function shown(dialog) {
  unanswered.get(dialog)?.(); // it is closed, and the event that tells so may still be on its way
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = () => resolve(dialog.returnValue);
    unanswered.set(dialog, answer);
    dialog.onclose = () => { if (!dialog.open) answer(); };
  });
}
