// A request as code that makes it: curl, Python, JavaScript.
import { addressOf, currentKey } from "./api.js";

const SHOWN = 3;
const PYTHON = { true: "True", false: "False", null: "None" };

export const LANGUAGES = ["curl", "Python", "JavaScript"];

/** The code of a request; where `short`, for looking at only, without most of the numbers. */
export function snippet(language, request, short) {
  const address = addressOf(request);
  const json = request.json && literal(request.json, language === "Python" ? PYTHON : {}, short);
  const answer = request.path.endsWith(".json") ? null : `cars.${request.path.split(".").at(-1)}`;
  return { curl, Python: python, JavaScript: javascript }[language]({ ...request, address, json, answer });
}

/** Whether the short form of a request leaves something out. */
export const isLong = ({ json }) => literal(json ?? {}, {}, true) !== literal(json ?? {}, {}, false);

function literal(value, words, short) {
  if (Array.isArray(value)) {
    const shown = short && value.length > 2 * SHOWN && typeof value[0] === "number" ? value.slice(0, SHOWN) : value;
    const texts = shown.map((item) => literal(item, words, short));
    if (shown !== value) texts.push(`… ${value.length - SHOWN} more`);
    return `[${texts.join(", ")}]`;
  }
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value).map(([name, item]) => `"${name}": ${literal(item, words, short)}`);
    return `{${fields.join(", ")}}`;
  }
  return words[String(value)] ?? JSON.stringify(value);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl({ address, json, file, answer }) {
  const lines = [`curl -sS ${quoted(address)}`];
  if (currentKey()) lines.push(`-H "Authorization: Bearer $CAR_VAE_KEY"`);
  if (json) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(json)}`);
  if (file) lines.push("-F image=@car.jpg");
  if (answer) lines.push(`-o ${answer}`);
  return lines.join(" \\\n  ");
}

function python({ method, address, json, file, answer }) {
  const lines = [`    ${JSON.stringify(address)},`];
  if (currentKey()) lines.push(`    headers={"Authorization": f"Bearer {os.environ['CAR_VAE_KEY']}"},`);
  if (json) lines.push(`    json=${json},`);
  if (file) lines.push(`    files={"image": open("car.jpg", "rb")},`);
  return [
    ...(currentKey() ? ["import os", ""] : []),
    "import httpx",
    "",
    `answer = httpx.${method.toLowerCase()}(`,
    ...lines,
    "    timeout=60,",
    ")",
    "answer.raise_for_status()",
    ...(answer ? [`open("${answer}", "wb").write(answer.content)`] : ["content = answer.json()"]),
  ].join("\n");
}

function javascript({ method, address, json, file, answer }) {
  const headers = [];
  if (currentKey()) headers.push(`"Authorization": "Bearer YOUR-KEY"`);
  if (json) headers.push(`"Content-Type": "application/json"`);
  const options = [`  method: "${method}",`];
  if (headers.length) options.push(`  headers: { ${headers.join(", ")} },`);
  if (json) options.push(`  body: JSON.stringify(${json}),`);
  if (file) options.push("  body: form,");
  return [
    ...(file ? [`const form = new FormData();`, `form.append("image", file); // of an <input type="file">`] : []),
    `const answer = await fetch("${address}", {`,
    ...options,
    "});",
    "if (!answer.ok) throw new Error((await answer.json()).detail);",
    `const content = await answer.${answer ? "blob" : "json"}();`,
  ].join("\n");
}
