// Arithmetic on latents, and their plot.

const SVG = "http://www.w3.org/2000/svg";

/** latent + the sum of amounts[i] · std_i · vector_i, at the precision of float32. */
export function along(latent, directions, amounts) {
  return latent.map((value, place) => {
    const moved = directions.reduce(
      (sum, { vector, std }, i) => sum + (amounts[i] ? amounts[i] * std * vector[place] : 0),
      value,
    );
    return Number(moved.toPrecision(8));
  });
}

/** The latent at a share of the way from one to another along the arc between them, which keeps to likely lengths. */
export function towards(from, to, share) {
  const [one, other] = [from, to].map((latent) => Math.hypot(...latent) || 1);
  const cosine = from.reduce((sum, value, i) => sum + (value / one) * (to[i] / other), 0);
  const angle = Math.acos(Math.min(Math.max(cosine, -1), 1));
  const length = one + share * (other - one);
  const [near, far] = Math.sin(angle) < 1e-6
    ? [1 - share, share]
    : [Math.sin((1 - share) * angle) / Math.sin(angle), Math.sin(share * angle) / Math.sin(angle)];
  return from.map((value, i) => Number((length * (near * (value / one) + far * (to[i] / other))).toPrecision(8)));
}

/** A bar for each number of a latent, as an SVG element that screen readers get in one sentence. */
export function plot(latent) {
  const svg = document.createElementNS(SVG, "svg");
  const reach = Math.max(...latent.map(Math.abs), 1e-9);
  svg.setAttribute("viewBox", `0 -1 ${latent.length} 2`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute(
    "aria-label",
    `The ${latent.length} numbers as bars, from ${Math.min(...latent).toFixed(2)} to ${Math.max(...latent).toFixed(2)}`,
  );
  const line = document.createElementNS(SVG, "line");
  line.setAttribute("x2", latent.length);
  const bars = document.createElementNS(SVG, "path");
  bars.setAttribute("d", latent.map((value, i) => `M${i + 0.15} 0h.7v${(-value / reach).toFixed(3)}h-.7z`).join(""));
  svg.append(line, bars);
  return svg;
}
