// A front end of its own origin: the service must name it in CAR_VAE_CORS_ORIGINS.
const SERVICE = "http://localhost:8000";

const form = document.querySelector("form");
const status = document.querySelector("[role=status]");
const figure = document.querySelector("figure");
const image = document.querySelector("img");
const position = document.querySelector("[name=position]");
let frames = [];

/** The frames between photographs, as data URLs. */
async function interpolate(photographs) {
  const body = new FormData();
  for (const photograph of photographs) body.append("image", photograph);
  body.append("steps", 32);
  const response = await fetch(`${SERVICE}/interpolate?format=json&size=576`, { method: "POST", body }).catch(() => {
    throw new Error(`${SERVICE} cannot be reached from this page.`);
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail); // an error says what is wrong and what would be right
  return answer.images;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  status.textContent = "Asking the service ...";
  figure.hidden = true;
  try {
    frames = await interpolate(form.elements.photographs.files);
    position.max = frames.length - 1;
    position.value = 0;
    image.src = frames[0];
    figure.hidden = false;
    status.textContent = "";
  } catch (error) {
    status.textContent = error.message;
  }
});
position.addEventListener("input", () => {
  image.src = frames[position.valueAsNumber];
});
