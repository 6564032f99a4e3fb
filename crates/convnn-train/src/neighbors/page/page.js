const data = JSON.parse(document.getElementById("data").textContent);
const spaces = data.spaces.map(Neighbors.prepare);
const $ = (id) => document.getElementById(id);
const canvas = $("picture");
const context = canvas.getContext("2d");
const picture = new Image();
const state = { ...data.start, position: false, heat: false };

const STOPS = [[240, 249, 33], [252, 166, 54], [225, 100, 98], [177, 42, 144], [106, 0, 168]];
function scale(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const stop = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[stop].map((from, c) => Math.round(from + (STOPS[stop + 1][c] - from) * (place - stop)));
}
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

const space = () => spaces[state.space];
const lambda = () => (state.position ? 0 : state.lambda);
const cellIn = (s) => [Math.floor((state.x * s.width) / data.size), Math.floor((state.y * s.height) / data.size)];
const options = (change) => ({ k: state.k, similarity: state.similarity, lambda: lambda(), ...change });

function describe(s, found) {
  const [x, y] = cellIn(s);
  const counts = { inside: 0, padding: 0, distance: 0 };
  for (const place of found.places) {
    if (s.rows[place] < 0) {
      counts.padding++;
      continue;
    }
    const [dx, dy] = [(place % s.W) - s.padding - x, Math.floor(place / s.W) - s.padding - y];
    if (Math.abs(dx) <= 1 && Math.abs(dy) <= 1) counts.inside++;
    counts.distance += Math.hypot(dx, dy);
  }
  counts.distance /= Math.max(found.places.length - counts.padding, 1);
  return counts;
}

function update() {
  const s = space();
  const [x, y] = cellIn(s);
  const found = Neighbors.choose(s, x, y, options());
  draw(s, found);
  const counts = describe(s, found);
  const cell = s.width === data.size ? "Pixel" : "Cell";
  $("said").textContent =
    `${cell} ${x}, ${y} of ${s.width}×${s.height}: of ${found.places.length} neighbors ${counts.inside} in the 3×3 window` +
    `${s.padding ? `, ${counts.padding} padding` : ""}; mean distance ${counts.distance.toFixed(1)}`;
  later();
}

function draw(s, found) {
  const side = canvas.width;
  const cell = side / Math.max(s.W, s.H);
  const corner = (place) => [(place % s.W) * cell, Math.floor(place / s.W) * cell];
  const middle = (place) => corner(place).map((at) => at + cell / 2);
  context.clearRect(0, 0, side, side);
  context.imageSmoothingEnabled = false;
  if (s.padding) {
    context.fillStyle = "rgb(128 128 128 / 0.25)";
    context.fillRect(0, 0, s.W * cell, s.H * cell);
  }
  const inner = [s.padding * cell, s.padding * cell, s.width * cell, s.height * cell];
  context.drawImage(picture, ...inner);
  if (state.heat) context.drawImage(heat(s, found.scores), 0, 0, s.W * cell, s.H * cell);
  const thin = Math.max(side / 400, 1);
  const color = (rank) => css(scale(rank / Math.max(found.places.length - 1, 1)));
  const each = (paint) => {
    for (let rank = found.places.length - 1; rank >= 0; rank--) paint(found.places[rank], rank);
  };
  const twice = (rank, paint) => {
    for (const [style, width] of [["#000", 3.5], [color(rank), 2]]) {
      [context.strokeStyle, context.lineWidth] = [style, width * thin];
      paint();
    }
  };
  each((place, rank) => {
    if (place === found.own) return;
    twice(rank, () => {
      context.lineWidth *= 0.6;
      context.beginPath();
      context.moveTo(...middle(found.own));
      context.lineTo(...middle(place));
      context.stroke();
    });
  });
  each((place, rank) => {
    const [left, top] = corner(place);
    twice(rank, () => context.strokeRect(left, top, cell, cell));
  });
  // The window of a convolution, dashed.
  const [left, top] = corner(found.own);
  for (const [style, dash] of [["#000", []], ["#fff", [4 * thin, 4 * thin]]]) {
    [context.strokeStyle, context.lineWidth] = [style, 1.5 * thin];
    context.setLineDash(dash);
    context.strokeRect(left - cell, top - cell, 3 * cell, 3 * cell);
  }
  context.setLineDash([]);
  [context.strokeStyle, context.lineWidth] = ["#fff", 2.5 * thin];
  context.strokeRect(left, top, cell, cell);
}

// The similarity to every place, from the lowest (dark) to the highest score (bright).
function heat(s, scores) {
  let [low, high] = [Infinity, -Infinity];
  for (const score of scores) {
    low = Math.min(low, score);
    high = Math.max(high, score);
  }
  const map = new OffscreenCanvas(s.W, s.H);
  const pixels = new ImageData(s.W, s.H);
  scores.forEach((score, place) => {
    const share = high > low ? (score - low) / (high - low) : 1;
    pixels.data.set([...scale(1 - share), 200], 4 * place);
  });
  map.getContext("2d").putImageData(pixels, 0, 0);
  return map;
}

// The charts follow when there is time for them.
let waiting = 0;
function later() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    charts();
  });
}

const share = (s, change) => {
  const found = Neighbors.choose(s, ...cellIn(s), options(change));
  return describe(s, found).inside / found.places.length;
};

function charts() {
  const percent = (value) => `${Math.round(100 * value)} %`;
  const steps = Array.from({ length: 21 }, (_, i) => i / 20);
  const walk = steps.map((step) => [step, share(space(), { lambda: step })]);
  const [left, width, top, height] = [34, 250, 8, 84];
  const at = ([x, y]) => `${left + width * x},${top + height * (1 - y)}`;
  const now = [lambda(), share(space())];
  const [nowX, nowY] = at(now).split(",");
  const frame =
    `<path class="axis" d="M${left} ${top}V${top + height}H${left + width}"/>` +
    `<text x="${left - 4}" y="${top + 8}" text-anchor="end">100</text>` +
    `<text x="${left - 4}" y="${top + height}" text-anchor="end">0</text>`;
  $("walk").innerHTML =
    frame +
    `<polyline points="${walk.map(at).join(" ")}"/><circle cx="${nowX}" cy="${nowY}" r="4"/>` +
    `<text x="${left}" y="${top + height + 14}">λ = 0, position</text>` +
    `<text x="${left + width}" y="${top + height + 14}" text-anchor="end">λ = 1, features</text>`;
  $("walk").setAttribute("aria-label", `share in the 3×3 window: ${walk.map(([x, y]) => `λ ${x}: ${percent(y)}`).join(", ")}`);
  const bars = spaces.map((s) => share(s));
  const step = width / bars.length;
  $("layers").innerHTML =
    frame +
    bars
      .map((value, i) => {
        const [x, y] = [left + step * i + step * 0.15, top + height * (1 - value)];
        const chosen = i === state.space ? " class=\"now\"" : "";
        return (
          `<rect${chosen} x="${x}" y="${y}" width="${step * 0.7}" height="${height * value}"/>` +
          `<text x="${x + step * 0.35}" y="${top + height + 14}" text-anchor="middle">${spaces[i].short}</text>`
        );
      })
      .join("");
  $("layers").setAttribute("aria-label", `share in the 3×3 window: ${bars.map((y, i) => `${spaces[i].name} ${percent(y)}`).join(", ")}`);
}

function controls() {
  const s = space();
  $("k").max = Math.min(Math.max(64, data.start.k), s.places);
  state.k = Math.min(state.k, s.places);
  $("k").value = state.k;
  $("kValue").textContent = state.k;
  $("lambda").value = lambda();
  $("lambda").disabled = state.position;
  $("lambdaValue").textContent = lambda().toFixed(2);
  $("similarity").value = state.similarity;
  for (const button of $("spaces").children) {
    const index = button.dataset.space;
    const on = index === "position" ? state.position : !state.position && Number(index) === state.space;
    button.setAttribute("aria-pressed", on);
  }
}

function change(values) {
  Object.assign(state, values);
  controls();
  update();
}

function resize() {
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (side && side !== canvas.width) canvas.width = canvas.height = side;
  update();
}

function point(event) {
  const s = space();
  const { left, top, width } = canvas.getBoundingClientRect();
  const cell = width / Math.max(s.W, s.H);
  const inside = (at, padding, side) => Math.min(Math.max(Math.floor(at / cell) - padding, 0), side - 1);
  const x = inside(event.clientX - left, s.padding, s.width);
  const y = inside(event.clientY - top, s.padding, s.height);
  moveTo(s, x, y);
}

// To the pixel in the middle of a cell.
function moveTo(s, x, y) {
  const pixel = (at, side) => Math.floor(((at + 0.5) * data.size) / side);
  state.x = pixel(x, s.width);
  state.y = pixel(y, s.height);
  update();
}

canvas.addEventListener("pointermove", (event) => {
  if (event.pointerType === "mouse" || event.buttons) point(event);
});
canvas.addEventListener("pointerdown", point);
canvas.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!move) return;
  event.preventDefault();
  const s = space();
  const [x, y] = cellIn(s);
  const within = (at, side) => Math.min(Math.max(at, 0), side - 1);
  moveTo(s, within(x + move[0], s.width), within(y + move[1], s.height));
});
$("k").addEventListener("input", (event) => change({ k: Number(event.target.value) }));
$("lambda").addEventListener("input", (event) => change({ lambda: Number(event.target.value) }));
$("similarity").addEventListener("change", (event) => change({ similarity: event.target.value }));
$("heat").addEventListener("change", (event) => change({ heat: event.target.checked }));
$("spaces").addEventListener("click", (event) => {
  const index = event.target.dataset.space;
  if (index === undefined) return;
  change(index === "position" ? { position: true } : { position: false, space: Number(index) });
});
addEventListener("resize", resize);
picture.onload = () => {
  controls();
  resize();
};
picture.src = data.picture;
