// The service's public API. A request is {method, path, query, json, file}; request.js shows the same object as code.
import { ROOT } from "./address.js";
import { say } from "./dom.js";
import { Problem } from "./problems.js";
import { stored } from "./storage.js";
import { upload } from "./upload.js";

const ATTEMPTS = 4;
const LONGEST_WAIT = 10;
const PATIENCE = 30;
const SLOWEST_UPLOAD = 10000;
const LARGE = 200000;
/** What these mean where codes are all that was sent. */
const OF_CODES = { 400: "damaged", 409: "foreign" };
const key = stored("sessionStorage", "car-vae key");

/** The whole address of a request. */
export function addressOf({ path, query = {} }) {
  const address = new URL(path, ROOT);
  for (const [name, values] of Object.entries(query)) {
    for (const value of [values].flat()) address.searchParams.append(name, value);
  }
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

/** The JSON answer to a request. */
export const ask = (request) => send(request, (answer) => answer.json());

/** The file that answers a request. */
export const askFile = (request) => send(request, (answer) => answer.blob());

/** What is read of the answer. Busy services are asked again when they say, and a key is asked for when needed. */
async function send(request, read) {
  for (let attempt = 1; ; attempt += 1) {
    const sentKey = currentKey();
    const { answer, content } = await reach(request, sentKey, read);
    if (answer.ok) return content;
    if (answer.status === 401 && (await askForKey(sentKey))) continue;
    const { status } = answer;
    if (![429, 503].includes(status) || attempt === ATTEMPTS) {
      throw new Problem((request.query?.code && OF_CODES[status]) || status, content);
    }
    await pause(Number(answer.headers.get("Retry-After")) || 1);
  }
}

/** One try, which ends in time: the deadline holds until all of the answer is there. */
async function reach(request, sentKey, read) {
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
  const deadline = new AbortController();
  const seconds = PATIENCE + (request.file?.size ?? 0) / SLOWEST_UPLOAD;
  const timer = setTimeout(() => deadline.abort(), seconds * 1000);
  try {
    const options = { method: request.method, headers, body, signal: deadline.signal };
    for (let again = request.method === "GET"; ; again = false) {
      const answer = await (request.file?.size > LARGE ? upload : fetch)(addressOf(request), options);
      try {
        return { answer, content: answer.ok ? await read(answer) : await answer.json().catch(() => null) };
      } catch (error) { // Chromium loses a preloaded answer that is read while it arrives; by then it is in its cache
        if (!again || deadline.signal.aborted) throw error;
      }
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(deadline.signal.aborted ? "slow" : 0);
  } finally {
    clearTimeout(timer);
  }
}

/** Wait as long as was asked for, and a little longer by chance: those refused together shall not return together. */
function pause(seconds) {
  const wait = Math.min(seconds, LONGEST_WAIT) * (1 + Math.random() / 4);
  say(`The service is busy. Trying again in ${Math.ceil(wait)} s …`, wait);
  return new Promise((resolve) => setTimeout(resolve, wait * 1000));
}
