// QR codes (ISO/IEC 18004) of texts: byte mode, versions 1 to 40, error correction L, or M where that costs nothing.

const SVG = "http://www.w3.org/2000/svg";
const QUIET = 4;

/** By version: check bytes of a block, and blocks. */
const L = {
  format: 1,
  checks: [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30,
    30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30],
  blocks: [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18,
    19, 19, 20, 21, 22, 24, 25],
};
const M = {
  format: 0,
  checks: [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28],
  blocks: [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31,
    33, 35, 37, 38, 40, 43, 45, 47, 49],
};
const MASKS = [
  (x, y) => (x + y) % 2,
  (x, y) => y % 2,
  (x) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** An SVG element with the QR code of a text, dark on white with its quiet zone. */
export function qrPicture(text, label) {
  const modules = qrModules(text);
  const size = modules.length + 2 * QUIET;
  const svg = document.createElementNS(SVG, "svg");
  const ground = document.createElementNS(SVG, "rect");
  const dark = document.createElementNS(SVG, "path");
  for (const [element, attributes] of [
    [svg, { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label, "shape-rendering": "crispEdges" }],
    [ground, { width: size, height: size, fill: "#fff" }],
    [dark, { fill: "#000", d: pathOf(modules) }],
  ]) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  }
  svg.append(ground, dark);
  return svg;
}

const pathOf = (modules) => modules
  .flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : "")))
  .join("");

/** Rows of modules, true where dark, of the smallest version that holds the text. Throws RangeError past 2953 bytes. */
export function qrModules(text) {
  const bytes = new TextEncoder().encode(text);
  const fits = (version, level) => bitsOf(bytes, version).length <= 8 * capacity(version, level);
  let version = 1;
  while (version <= 40 && !fits(version, L)) version += 1;
  if (version > 40) throw new RangeError(`${bytes.length} bytes are more than a QR code holds`);
  const level = fits(version, M) ? M : L;
  const sheet = new Sheet(version);
  sheet.fill(withChecks(padded(bitsOf(bytes, version), capacity(version, level)), version, level));
  const masked = MASKS.map((_, mask) => sheet.masked(mask, level));
  const worths = masked.map(penalty);
  return masked[worths.indexOf(Math.min(...worths))];
}

/** Bytes of data and checks together. */
function total(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version > 1) {
    const marks = Math.floor(version / 7) + 2;
    modules -= (25 * marks - 10) * marks - 55;
  }
  if (version > 6) modules -= 36;
  return Math.floor(modules / 8);
}

const capacity = (version, { checks, blocks }) => total(version) - checks[version - 1] * blocks[version - 1];

/** `count` bits of a number, the highest first. */
const bits = (value, count) => Array.from({ length: count }, (_, i) => (value >>> (count - 1 - i)) & 1);

/** Mode, length and content. */
const bitsOf = (bytes, version) =>
  [...bits(4, 4), ...bits(bytes.length, version < 10 ? 8 : 16), ...[...bytes].flatMap((byte) => bits(byte, 8))];

/** As bytes: closed by up to four zeros, filled up with the two bytes of the standard. */
function padded(content, length) {
  const all = [...content, 0, 0, 0, 0].slice(0, 8 * length);
  while (all.length % 8) all.push(0);
  const bytes = [];
  for (let i = 0; i < all.length; i += 8) bytes.push(all.slice(i, i + 8).reduce((sum, bit) => 2 * sum + bit, 0));
  for (let fill = 0xec; bytes.length < length; fill ^= 0xec ^ 0x11) bytes.push(fill);
  return bytes;
}

/** Blocks with their check bytes, interleaved. */
function withChecks(data, version, { checks, blocks }) {
  const count = blocks[version - 1];
  const divisor = divisorOf(checks[version - 1]);
  const short = Math.floor(data.length / count);
  const parts = [];
  for (let i = 0, from = 0; i < count; i += 1) {
    const length = short + (i >= count - (data.length % count) ? 1 : 0);
    parts.push(data.slice(from, from + length));
    from += length;
  }
  const rests = parts.map((part) => remainder(part, divisor));
  const columns = (rows) => Array.from({ length: Math.max(...rows.map((row) => row.length)) }, (_, i) =>
    rows.filter((row) => i < row.length).map((row) => row[i])).flat();
  return [...columns(parts), ...columns(rests)];
}

/** In the field of 256 elements modulo x^8 + x^4 + x^3 + x^2 + 1. */
function times(one, other) {
  let product = 0;
  for (let i = 7; i >= 0; i -= 1) {
    product = (product << 1) ^ ((product >>> 7) * 0x11d);
    product ^= ((other >>> i) & 1) * one;
  }
  return product;
}

/** Coefficients of (x - 1)(x - 2)(x - 4)…, without the highest. */
function divisorOf(degree) {
  const found = [...new Array(degree - 1).fill(0), 1];
  for (let i = 0, root = 1; i < degree; i += 1, root = times(root, 2)) {
    for (let j = 0; j < degree; j += 1) found[j] = times(found[j], root) ^ (found[j + 1] ?? 0);
  }
  return found;
}

function remainder(data, divisor) {
  const rest = new Array(divisor.length).fill(0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    divisor.forEach((coefficient, i) => { rest[i] ^= times(coefficient, factor); });
  }
  return rest;
}

/** `value` and its remainder modulo `generator`, a polynomial of that many `checks` bits. */
function withRemainder(value, generator, checks) {
  let rest = value;
  for (let i = 0; i < checks; i += 1) rest = (rest << 1) ^ ((rest >>> (checks - 1)) * generator);
  return (value << checks) | rest;
}

class Sheet {
  #size;
  #dark;
  #isFixed;

  /** Draws what is the same in all codes of a version. */
  constructor(version) {
    this.#size = 4 * version + 17;
    this.#dark = this.#rows();
    this.#isFixed = this.#rows();
    for (let i = 0; i < this.#size; i += 1) {
      this.#fix(6, i, i % 2 === 0);
      this.#fix(i, 6, i % 2 === 0);
    }
    const last = this.#size - 1;
    for (const [x, y] of [[3, 3], [last - 3, 3], [3, last - 3]]) this.#rings(x, y, 4, [2, 4]);
    const marks = marksOf(version, this.#size);
    for (const x of marks) {
      for (const y of marks) {
        const isInCorner = [[6, 6], [6, last - 6], [last - 6, 6]].some(([a, b]) => a === x && b === y);
        if (!isInCorner) this.#rings(x, y, 2, [1]);
      }
    }
    this.#format(0);
    if (version < 7) return;
    const text = withRemainder(version, 0x1f25, 12);
    for (let i = 0; i < 18; i += 1) {
      const [a, b] = [this.#size - 11 + (i % 3), Math.floor(i / 3)];
      this.#fix(a, b, (text >>> i) & 1);
      this.#fix(b, a, (text >>> i) & 1);
    }
  }

  /** Put bytes into what is left free: up and down in columns of two, from the right. */
  fill(bytes) {
    let i = 0;
    for (let right = this.#size - 1; right > 0; right -= 2) {
      if (right === 6) right = 5;
      for (let step = 0; step < this.#size; step += 1) {
        const isUp = ((right + 1) & 2) === 0;
        const y = isUp ? this.#size - 1 - step : step;
        for (const x of [right, right - 1]) {
          if (this.#isFixed[y][x] || i >= 8 * bytes.length) continue;
          this.#dark[y][x] = ((bytes[i >>> 3] >>> (7 - (i & 7))) & 1) === 1;
          i += 1;
        }
      }
    }
  }

  /** The rows under a mask. */
  masked(mask, { format }) {
    this.#format((format << 3) | mask);
    return this.#dark.map((row, y) => row.map((isDark, x) =>
      isDark !== (!this.#isFixed[y][x] && MASKS[mask](x, y) === 0)));
  }

  #rows = () => Array.from({ length: this.#size }, () => new Array(this.#size).fill(false));

  #fix(x, y, isDark) {
    this.#dark[y][x] = Boolean(isDark);
    this.#isFixed[y][x] = true;
  }

  /** Squares within squares around a place, light where the distance to it is one of `light`. */
  #rings(centreX, centreY, reach, light) {
    for (let y = Math.max(0, centreY - reach); y <= Math.min(this.#size - 1, centreY + reach); y += 1) {
      for (let x = Math.max(0, centreX - reach); x <= Math.min(this.#size - 1, centreX + reach); x += 1) {
        this.#fix(x, y, !light.includes(Math.max(Math.abs(x - centreX), Math.abs(y - centreY))));
      }
    }
  }

  /** The two copies of level and mask, beside the corners. */
  #format(value) {
    const text = withRemainder(value, 0x537, 10) ^ 0x5412;
    const bit = (i) => (text >>> i) & 1;
    const last = this.#size - 1;
    for (let i = 0; i < 8; i += 1) {
      this.#fix(8, i < 6 ? i : i + 1, bit(i));
      this.#fix(last - i, 8, bit(i));
    }
    for (let i = 8; i < 15; i += 1) {
      this.#fix(i < 9 ? 7 : 14 - i, 8, bit(i));
      this.#fix(8, last - 14 + i, bit(i));
    }
    this.#fix(8, last - 7, true);
  }
}

/** Where the middles of the small marks are, in both directions. */
function marksOf(version, size) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = version === 32 ? 26 : 2 * Math.ceil((size - 13) / (2 * count - 2));
  return [6, ...Array.from({ length: count - 1 }, (_, i) => size - 7 - (count - 2 - i) * step)];
}

/** How hard rows are to read, by the four rules of the standard. */
function penalty(rows) {
  const size = rows.length;
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  let sum = 0;
  for (const line of [...rows, ...columns]) {
    const text = line.map((isDark) => (isDark ? "1" : "0")).join("");
    for (const [run] of text.matchAll(/0{5,}|1{5,}/g)) sum += run.length - 2;
    for (const pattern of ["10111010000", "00001011101"]) {
      for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + 1)) sum += 40;
    }
  }
  for (let y = 1; y < size; y += 1) {
    for (let x = 1; x < size; x += 1) {
      const isDark = rows[y][x];
      if (rows[y - 1][x] === isDark && rows[y][x - 1] === isDark && rows[y - 1][x - 1] === isDark) sum += 3;
    }
  }
  const dark = rows.flat().filter(Boolean).length / size ** 2;
  return sum + 10 * Math.floor(Math.abs(dark - 0.5) * 20);
}
