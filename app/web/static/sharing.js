// The ways out of a picture, the same everywhere: share it, copy a link to it or itself, save it.
import { make, say } from "./dom.js";
import { download } from "./files.js";

const ENDINGS = { "image/png": "png", "image/webp": "webp", "image/jpeg": "jpg", "image/avif": "avif", "image/gif": "gif" };

const HOLDS = "The link holds the car itself: nothing is stored here, and whoever has it sees this picture.";

/**
 * Fills `host` with buttons. `link` answers an address, or null where there is none; `picture` a file of a media type;
 * `saves` are further files, {label, type, make}. Where the link `holds` a car, that is said.
 */
export function waysOut(host, guarded, { name, link, picture, saves = [], holds = false }) {
  const button = (text, work, label = text) =>
    make("button", { type: "button", "aria-label": label, onclick: guarded(work) }, text);

  const share = async () => {
    const url = await link();
    const told = url ? { title: document.title, url } : { files: [await asFile(picture("image/png"), name)] };
    try {
      await navigator.share(told);
    } catch (error) {
      if (error.name === "NotAllowedError") say("Press Share once more: it is ready now.", 8);
      else if (error.name !== "AbortError") say("The browser cannot share this. Copy the link, or save the picture.", 8);
    }
  };

  const copyLink = async () => {
    const text = link();
    const blob = text.then((url) => {
      if (!url) throw new Unlinked();
      return new Blob([url], { type: "text/plain" });
    });
    if (await put("text/plain", blob)) say("Link copied.");
  };

  const copyImage = async () => { if (await put("image/png", picture("image/png"))) say("Picture copied."); };

  const files = [
    { label: "PNG", type: "image/png", make: () => picture("image/png") },
    { label: "WebP", type: "image/webp", make: () => picture("image/webp") },
    ...saves,
  ];
  host.classList.add("ways-out");
  host.replaceChildren(
    make("div", { className: "row" },
      ...(navigator.share ? [button("Share", share)] : []),
      button("Copy link", copyLink),
      ...(window.ClipboardItem ? [button("Copy picture", copyImage)] : [])),
    make("div", { className: "row", role: "group", "aria-label": "Save as" },
      make("span", { className: "hint", "aria-hidden": "true" }, "Save as"),
      ...files.map((file) => button(file.label, async () => {
        const blob = await file.make();
        download(blob, `${name}.${ENDINGS[blob.type] ?? ENDINGS[file.type]}`);
      }, `Save as ${file.label}`))),
    ...(holds ? [make("p", { className: "hint" }, HOLDS)] : []),
  );
}

class Unlinked extends Error {}

/** Copy what is on its way: browsers want to be asked at once. Answers whether it is copied. */
async function put(type, making) {
  making.catch(() => {}); // where it fails before anybody waits for it: both ways below hear of it
  try {
    await navigator.clipboard.write([new ClipboardItem({ [type]: making })]);
    return true;
  } catch {
    try {
      await making;
      say("The browser does not allow copying here. Save the picture, or copy the address of the page.", 8);
    } catch (error) {
      if (!(error instanceof Unlinked)) throw error;
      say("There is no link to this: the model of this service has no codes.", 8);
    }
    return false;
  }
}

async function asFile(making, name) {
  const blob = await making;
  return new File([blob], `${name}.${ENDINGS[blob.type]}`, { type: blob.type });
}
