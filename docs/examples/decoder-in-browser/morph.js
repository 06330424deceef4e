// A morph whose frames the browser decodes: two requests for its ends and its model, one for the decoder.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const SERVICE = "http://localhost:8000";
const SECONDS = 3;

const status = document.querySelector("[role=status]");
const canvas = document.querySelector("canvas");
const button = document.querySelector("button");
const slider = document.querySelector("input");

ort.env.wasm.numThreads = 1; // more need a page that is cross-origin isolated

async function get(url) {
  const response = await fetch(url).catch(() => {
    throw new Error(`${SERVICE} cannot be reached from this page.`);
  });
  if (!response.ok) throw new Error((await response.json()).detail);
  return response;
}

/** The decoder: a function from a latent, as an array, to an ImageData. */
async function loadDecoder() {
  const address = `${SERVICE}/model`;
  const model = await (await get(address)).json();
  // The same graph that the service runs, so that its images are the same too.
  const graph = model.decoders.find(({ precision }) => precision === model.precision);
  if (graph === undefined) throw new Error("The service keeps its decoder: CAR_VAE_SERVE_DECODER is not set.");
  // The address holds the digest of the file: the browser keeps it, and asks once for each model.
  const file = await (await get(new URL(graph.url, address))).arrayBuffer();
  const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
  const { width, height } = model.image_size;
  return async (latent) => {
    const latents = new ort.Tensor("float32", Float32Array.from(latent), [1, latent.length]);
    const { pictures } = await session.run({ latents });
    const image = new ImageData(width, height);
    for (let from = 0, to = 0; from < pictures.data.length; from += 3, to += 4) {
      image.data.set(pictures.data.subarray(from, from + 3), to);
      image.data[to + 3] = 255;
    }
    return image;
  };
}

/** The ends of the morph: two cars that the model makes up, the same at each visit. */
async function loadEnds() {
  const answer = await get(`${SERVICE}/sample?format=json&count=2&seed=3`);
  return (await answer.json()).latents;
}

try {
  const [decode, [start, end]] = await Promise.all([loadDecoder(), loadEnds()]);

  const draw = async (lambda) => {
    const image = await decode(start.map((value, index) => (1 - lambda) * value + lambda * end[index]));
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").putImageData(image, 0, 0);
    canvas.dataset.lambda = lambda;
  };

  // One frame at a time: of positions that come while one is decoded, the last is drawn.
  let drawing = false;
  const drawLatest = async () => {
    if (drawing) return;
    drawing = true;
    while (Number(canvas.dataset.lambda) !== slider.valueAsNumber) await draw(slider.valueAsNumber);
    drawing = false;
  };
  slider.addEventListener("input", drawLatest);

  button.addEventListener("click", async () => {
    button.disabled = true;
    const began = performance.now();
    let lambda = 0;
    while (lambda < 1) {
      lambda = Math.min(1, ((await new Promise(requestAnimationFrame)) - began) / 1000 / SECONDS);
      slider.value = Math.max(0, lambda);
      await drawLatest();
    }
    button.disabled = false;
  });

  await draw(0);
  button.disabled = slider.disabled = false;
  status.textContent = "Each frame is decoded here, without a request.";
} catch (error) {
  status.textContent = error.message;
}
