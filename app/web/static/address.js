// The state of the page in its address: #panel?name=value&…, so that what is seen can be shared.

import { say } from "./dom.js";

const SETTLED = 250;
const CAR = /c\/([^/]+)$/;
let writing = 0;
let served = { id: null, codes: false };

/** Where the service is. The page may stand below it, at the address of a car. */
export const ROOT = new URL(location.pathname.replace(CAR, ""), location.origin);

/** Say which model is served: addresses name it, as they mean nothing to another. */
export const setServed = ({ id, codes }) => { served = { id, codes }; };
export const servedModel = () => served.id;
export const hasCodes = () => served.codes;

/** {panel, values}: the name of a panel, and its state by name. */
export function readAddress() {
  const [panel, query = ""] = location.hash.slice(1).split("?");
  const [, code] = CAR.exec(location.pathname) ?? [];
  if (!panel && code) return { panel: "compress", values: { code } };
  return { panel, values: Object.fromEntries(new URLSearchParams(query)) };
}

/** Say of a link that something in it means nothing. */
export const sayDamaged = () => say("This link is damaged: what cannot be read in it is as usual.", 8);

/** The address of a panel in a state; undefined values are left out. A car as it came has an address of its own. */
export function addressFor(panel, values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  if (panel === "compress" && given.length === 1 && values.code) return addressOfCode(values.code);
  if (given.length) given.push(["model", served.id]);
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%2F", "/")}`);
  return new URL(`#${[panel, ...(query.length ? [query.join("&")] : [])].join("?")}`, ROOT).href;
}

/** The address of a car itself. */
export const addressOfCode = (code) => new URL(`c/${code}`, ROOT).href;

/** What this browser alone keeps of a panel's state at this place of its history. */
export function keptState(panel) {
  const { model, [panel]: kept } = history.state ?? {};
  return model === served.id ? (kept ?? {}) : {};
}

/**
 * Put the state of the panel that is shown into the address, when it has settled; browsers limit how often. What is
 * private is `kept` beside it, for reloading and for going back, and goes nowhere with a link.
 */
export function writeAddress(panel, values, kept = {}) {
  clearTimeout(writing);
  writing = setTimeout(() => {
    if (readAddress().panel === panel) history.replaceState({ model: served.id, [panel]: kept }, "", addressFor(panel, values));
  }, SETTLED);
}

// Whoever has gone elsewhere is not brought back by what had not settled.
addEventListener("popstate", () => clearTimeout(writing));
