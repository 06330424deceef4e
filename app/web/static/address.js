// The state of the page in its address: #panel?name=value&…, so that what is seen can be shared.

import { say } from "./dom.js";

const SETTLED = 250;
const CAR = /c\/([^/]+)$/;
let writing = 0;

/** Where the service is. The page may stand below it, at the address of a car. */
export const ROOT = new URL(location.pathname.replace(CAR, ""), location.origin);

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
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`);
  return new URL(`#${[panel, ...(query.length ? [query.join("&")] : [])].join("?")}`, ROOT).href;
}

/** The address of a car itself. */
export const addressOfCode = (code) => new URL(`c/${code}`, ROOT).href;

/** Put the state of the panel that is shown into the address, when it has settled; browsers limit how often. */
export function writeAddress(panel, values) {
  clearTimeout(writing);
  writing = setTimeout(() => {
    if (readAddress().panel === panel) history.replaceState(null, "", addressFor(panel, values));
  }, SETTLED);
}
