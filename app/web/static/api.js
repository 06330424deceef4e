// The service's public API. A request is {method, path, query, json, file}; request.js shows the same object as code.
import { say } from "./dom.js";
import { Problem } from "./problems.js";
import { stored } from "./storage.js";

const ROOT = new URL(".", document.baseURI);
const ATTEMPTS = 4;
const LONGEST_WAIT = 10;
const key = stored("sessionStorage", "car-vae key");

/** The whole address of a request. */
export function addressOf({ path, query = {} }) {
  const address = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  return address.href;
}

/** The API key in use, or null. */
export const currentKey = () => key.read();
export const setKey = (text) => key.write(text);

let askForKey = async () => false;

/** Give the way to ask the visitor for a key: it sets one and answers true, or false where there is none. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** The answer to a request. Busy services are asked again when they say, and a key is asked for when needed. */
export async function send(request) {
  for (let attempt = 1; ; attempt += 1) {
    const sentKey = currentKey();
    const answer = await reach(request, sentKey);
    if (answer.ok) return answer;
    if (answer.status === 401 && (await askForKey(sentKey))) continue;
    if (![429, 503].includes(answer.status) || attempt === ATTEMPTS) throw await problemOf(answer);
    await pause(Number(answer.headers.get("Retry-After")) || 1);
  }
}

/** The JSON answer to a request. */
export async function ask(request) {
  const answer = await send(request);
  try {
    return await answer.json();
  } catch {
    throw new Problem(0);
  }
}

async function reach(request, sentKey) {
  const headers = {};
  let body;
  if (sentKey) headers.Authorization = `Bearer ${sentKey}`;
  if (request.json) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(request.json);
  } else if (request.file) {
    body = new FormData();
    body.append("image", request.file, "car");
  }
  try {
    return await fetch(addressOf(request), { method: request.method, headers, body });
  } catch {
    throw new Problem(0);
  }
}

async function problemOf(answer) {
  try {
    return new Problem(answer.status, await answer.json());
  } catch {
    return new Problem(answer.status);
  }
}

/** Wait as long as was asked for, and a little longer by chance: those refused together shall not return together. */
function pause(seconds) {
  const wait = Math.min(seconds, LONGEST_WAIT) * (1 + Math.random() / 4);
  say(`The service is busy. Trying again in ${Math.ceil(wait)} s …`, wait);
  return new Promise((resolve) => setTimeout(resolve, wait * 1000));
}
