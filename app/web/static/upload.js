// Sends what is large, and shows how far it has come, which fetch does not tell.
import { find, partsOf, passFocus } from "./dom.js";
import { Problem } from "./problems.js";

/** As fetch does it, for a body that takes its time: the visitor sees it go, and may stop it. */
export function upload(address, { method, headers, body, signal }) {
  const place = find("sending");
  const { share, stop } = partsOf(place);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      // Sent is not answered: what is without a value moves on its own.
      if (loaded < total) share.value = loaded / total;
      else share.removeAttribute("value");
    };
    request.onload = () => resolve(responseOf(request));
    request.onerror = () => reject(new TypeError("no answer"));
    request.onabort = () => reject(signal.aborted ? new TypeError("aborted") : new Problem("stopped"));
    request.onloadend = () => {
      passFocus(stop, ...document.querySelectorAll("h1"));
      place.hidden = true;
    };
    signal.addEventListener("abort", () => request.abort());
    stop.onclick = () => request.abort();
    share.value = 0;
    place.hidden = false;
    request.send(body);
  });
}

function responseOf(request) {
  const headers = {};
  for (const name of ["Content-Type", "Retry-After"]) {
    const value = request.getResponseHeader(name);
    if (value !== null) headers[name] = value;
  }
  return new Response(request.response, { status: request.status, headers });
}
