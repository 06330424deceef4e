// The car beside other formats of as many bytes: a tile for each, and the curve of all.
import { make } from "../dom.js";
import { OTHERS } from "./cars.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [560, 200];
const [LEFT, RIGHT, TOP, BOTTOM] = [30, 84, 10, 22];
const APART = 15;
const OWN = "car-vae";
/** How the formats' files are counted. */
const SMALLEST = {
  blurhash: (bytes) => `A BlurHash has ${bytes} characters or more`,
  thumbhash: (bytes) => `The ThumbHash of this car has ${bytes} bytes`,
};

/** Fills a list with a tile for each format; the function it gives shows a car (see carAtAllStops) at one of its stops. */
export function makeTiles(host) {
  const tiles = new Map([OWN, ...Object.keys(OTHERS)].map((format) => {
    const picture = make("img", { alt: "" });
    const none = make("p", { className: "hint" });
    const figures = make("span", { className: "hint" });
    const name = OTHERS[format] ?? OWN;
    const tile = make("li", {}, make("div", { className: "tile" }, picture, none), make("p", {}, make("span", {}, name), " ", figures));
    host.append(tile);
    return [format, { tile, picture, none, figures, name }];
  }));

  function fillTile({ tile, picture, none, figures, name }, { image, bytes, decibels, best, words }) {
    picture.hidden = !image;
    none.hidden = Boolean(image);
    if (image) Object.assign(picture, { src: image, alt: `The car as ${name}, ${bytes} bytes` });
    none.textContent = words ?? "";
    figures.textContent = image ? `${bytes} B${decibels === null ? "" : ` · ${decibels.toFixed(1)} dB`}` : "\u2014";
    tile.classList.toggle("best", best);
  }

  return (car, place) => {
    const rivals = car.others.map((other) => ({
      format: other.format, image: other.images[place], bytes: other.bytes[place], decibels: other.psnr[place], smallest: other.smallest,
    }));
    const own = { format: OWN, image: car.urls[place], bytes: car.lengths[place], decibels: car.psnr[place] };
    const best = [own, ...rivals].reduce((one, other) => ((other.decibels ?? -1) > (one.decibels ?? Infinity) ? other : one));
    for (const [format, tile] of tiles) tile.tile.hidden = format !== OWN && !rivals.some((rival) => rival.format === format);
    for (const each of [own, ...rivals]) {
      const words = SMALLEST[each.format] ?? ((bytes) => `No ${OTHERS[each.format]} file of this car is below ${bytes} bytes`);
      fillTile(tiles.get(each.format), { ...each, best: each === best, words: each.smallest && words(each.smallest) });
    }
  };
}

/** Which formats are nearer to the original from some stop on, in words; empty where none is. */
export function overtakers(car) {
  return car.others.flatMap(({ format, psnr }) => {
    const lost = car.psnr.findLastIndex((own, i) => own === null || psnr[i] === null || psnr[i] <= own);
    return lost + 1 < car.stops.length ? [`${OTHERS[format]} wins from ${car.stops[lost + 1]} bytes on.`] : [];
  }).join(" ");
}

/** An SVG element with attributes. */
function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Bytes against decibels of a car in all formats as an SVG element, with a dot at one of its stops. */
export function curve({ stops, lengths, psnr, others }, place) {
  const pointsOf = (bytes, decibels) => stops.flatMap((_, i) => (decibels[i] === null ? [] : [[bytes[i], decibels[i]]]));
  const drawn = [
    { name: OWN, points: pointsOf(lengths, psnr) },
    ...others.map((other) => ({ name: OTHERS[other.format], points: pointsOf(other.bytes, other.psnr) })),
  ].filter(({ points }) => points.length);
  if (!drawn.length) return draw("svg", {});
  const all = drawn.flatMap(({ points }) => points);
  const [fewest, most] = ends([...stops, ...all.map(([bytes]) => bytes)]);
  const [low, high] = ends(all.map(([, decibels]) => decibels));
  const [floor, ceiling] = [Math.floor(low / 5) * 5, Math.max(Math.ceil(high / 5) * 5, Math.floor(low / 5) * 5 + 5)];
  const across = (bytes) =>
    LEFT + ((WIDTH - LEFT - RIGHT) * Math.log(bytes / fewest)) / (Math.log(most / fewest) || 1);
  const up = (decibels) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (decibels - floor)) / (ceiling - floor);
  const step = ceiling - floor > 15 ? 10 : 5;
  const heights = Array.from({ length: Math.floor((ceiling - floor) / step) + 1 }, (_, i) => floor + step * i);
  const names = drawn.map(({ name, points }) => {
    const [x, y] = [across(points.at(-1)[0]), up(points.at(-1)[1])];
    return x > WIDTH / 3 ? { name, x: x + 8, y: y + 4 } : { name, x: x - 4, y: y + APART };
  });
  return draw(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": inWords(drawn) },
    ...heights.flatMap((value) => [
      draw("path", { class: "grid", d: `M${LEFT} ${up(value)}H${WIDTH - RIGHT}` }),
      draw("text", { x: LEFT - 6, y: up(value) + 4, "text-anchor": "end" }, String(value)),
    ]),
    ...stops.map((bytes) => draw("text", { x: across(bytes), y: HEIGHT - 4, "text-anchor": "middle" }, String(bytes))),
    ...drawn.map(({ name, points }) => draw("path", {
      class: name === OWN ? "own" : "other",
      d: `M${points.map(([bytes, decibels]) => `${across(bytes).toFixed(1)} ${up(decibels).toFixed(1)}`).join("L")}`,
    })),
    ...drawn.filter(({ points }) => points[0][0] === points.at(-1)[0]).map(({ points: [[bytes, decibels]] }) =>
      draw("circle", { class: "other", cx: across(bytes), cy: up(decibels), r: 3.5 })),
    ...spread(names).map(({ name, x, y }) => draw("text", { x, y, class: name === OWN ? "own" : "other" }, name)),
    ...(psnr[place] === null ? [] : [draw("circle", { class: "own", cx: across(lengths[place]), cy: up(psnr[place]), r: 6 })]),
  );
}

const ends = (values) => [Math.min(...values), Math.max(...values)];

/** Names that would lie upon one another go apart, downwards. */
function spread(names) {
  const sorted = names.toSorted((one, other) => one.y - other.y);
  sorted.forEach((name, i) => {
    for (const above of sorted.slice(0, i)) {
      if (Math.abs(above.x - name.x) < RIGHT && name.y - above.y < APART) name.y = above.y + APART;
    }
  });
  return sorted;
}

function inWords(lines) {
  const each = lines.map(({ name, points }) => {
    const [[fewest, low], [most, high]] = [points[0], points.at(-1)];
    return points.length === 1
      ? `${name} ${low.toFixed(1)} dB in ${fewest} bytes`
      : `${name} from ${low.toFixed(1)} dB in ${fewest} bytes to ${high.toFixed(1)} dB in ${most}`;
  });
  return `How near each is to the original: ${each.join("; ")}.`;
}
