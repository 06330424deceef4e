// Files in and out: what was dropped or pasted, and what is taken home.
import { find } from "./dom.js";
import { Problem } from "./problems.js";

/** Call `receive` with the files that are dropped on the page or pasted into it. */
export function onFiles(receive) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    find("content").classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) find("content").classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    find("content").classList.remove("dropping");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) receive([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    receive(files);
  });
}

/** Call `receive` with the files chosen in an input, also when it is the same one again. */
export function onChosen(input, receive) {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) receive(files);
  });
}

/** Save a blob under a name. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** The file in a canvas. */
export async function fileOf(canvas, type, quality) {
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, type, quality); });
  if (!blob) throw new Problem("canvas");
  return blob;
}

/** A file as an address that holds all of it. */
export const urlOfFile = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Problem("picture"));
  reader.readAsDataURL(file);
});

const PICTURE = /^data:(image\/\w+);base64,([A-Za-z0-9+/=]*)$/;

/** Whether something is the data URL of a picture. */
export const isPictureUrl = (url) => typeof url === "string" && PICTURE.test(url);

/** What is in such a URL: it is read here, as the page may ask nobody but the service. */
export function fileOfUrl(url) {
  const [, type, content] = PICTURE.exec(url);
  return new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], { type });
}

/** 1234 -> "1.2 kB" */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
