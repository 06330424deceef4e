// The foldable part of a panel that shows the request behind it as code.
import { copy, make } from "./dom.js";
import { LANGUAGES, isLong, snippet } from "./snippets.js";

/** Fills `host`; the function it gives shows a request. */
export function requestView(host, name) {
  let request = null;
  let language = LANGUAGES[0];
  const code = make("code");
  const shortened = make("p", { className: "hint", hidden: true }, "Shortened here; Copy takes all of it.");
  const choices = LANGUAGES.map((text) =>
    make("label", {}, make("input", {
      type: "radio",
      name: `language-${name}`,
      value: text,
      checked: text === language,
      onchange: () => { language = text; render(); },
    }), make("span", {}, text)));
  const details = make(
    "details",
    { className: "request", hidden: true, ontoggle: () => render() },
    make("summary", {}, "The request behind this"),
    make(
      "div",
      { className: "row spread" },
      make("fieldset", { className: "choice", "aria-label": "Language" }, ...choices),
      make("button", {
        type: "button",
        onclick: () => copy(snippet(language, request, false), `Copied for ${language}.`),
      }, "Copy"),
    ),
    make("pre", { tabIndex: 0, role: "region", "aria-label": "The request as code" }, code),
    shortened,
  );
  host.append(details);

  function render() {
    if (!request || !details.open) return;
    code.textContent = snippet(language, request, true);
    shortened.hidden = !isLong(request);
  }

  return (next) => {
    request = next;
    details.hidden = false;
    render();
  };
}
