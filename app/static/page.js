// Tries the service out: samples from the prior, and a reconstruction of the visitor's own picture.
const element = (id) => document.getElementById(id);

async function ask(path, options) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail);
  return content;
}

function reporting(action) {
  return async (event) => {
    element("problem").textContent = "";
    try {
      await action(event);
    } catch (error) {
      element("problem").textContent = error.message;
    }
  };
}

function show(id, source) {
  element(id).src = source;
  element(id).hidden = false;
}

element("sample").addEventListener("click", () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  show("samples", `sample?count=12&size=192&seed=${seed}`);
});

element("file").addEventListener("change", reporting(async ({ target }) => {
  if (!target.files.length) return;
  const body = new FormData();
  body.append("image", target.files[0]);
  const { images, psnr, ssim } = await ask("reconstruct?size=384", { method: "POST", body });
  show("reconstruction", images[0]);
  element("quality").textContent = `PSNR ${psnr[0].toFixed(1)} dB, SSIM ${ssim[0].toFixed(2)}`;
}));

reporting(async () => {
  const { id, latent_dim: numbers, provider } = await ask("model");
  element("model").textContent = `This is ${id}: ${numbers} numbers a picture, running on ${provider}.`;
})();
