// Charts from the JSON in each figure, drawn as SVG in the page's own colours; drawn again when their width changes.
"use strict";
const COLOURS = 8;

function makeChart(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const state = { log: spec.log === "on", hidden: new Set(spec.series.flatMap((s, i) => (s.hidden ? [i] : []))), at: null };
  const plot = document.createElement("div");
  plot.tabIndex = 0;
  plot.setAttribute("role", "img");
  figure.append(plot);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-live", "polite");
  figure.append(tip);
  if (spec.series.length > 1) figure.append(makeLegend(spec, state, draw));
  if (spec.log) figure.append(makeLogSwitch(state, draw));
  let view = null;

  function draw() {
    const width = Math.max(260, plot.clientWidth || 520);
    view = spec.bars ? drawBars(spec, state, width) : drawLines(spec, state, width);
    plot.replaceChildren(view.svg);
    plot.setAttribute("aria-label", describe(spec, state));
    hide();
  }
  function hide() {
    state.at = null;
    tip.hidden = true;
    view?.mark(null);
  }
  function show(index) {
    if (!view.places.length) return;
    state.at = Math.max(0, Math.min(view.places.length - 1, index));
    const place = view.places[state.at];
    view.mark(place);
    tip.replaceChildren(...tipLines(spec, place));
    tip.hidden = false;
    const scale = plot.clientWidth / view.width, x = plot.offsetLeft + place.px * scale;
    const left = x + tip.offsetWidth + 16 < figure.clientWidth ? x + 12 : Math.max(4, x - tip.offsetWidth - 12);
    tip.style.left = left + "px";
    tip.style.top = plot.offsetTop + 12 + "px";
  }
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect(), px = ((event.clientX - box.left) / box.width) * view.width;
    show(nearest(view.places, px));
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const last = view.places.length - 1;
    const to = { ArrowLeft: (state.at ?? last + 1) - 1, ArrowRight: (state.at ?? -1) + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") hide();
    else if (to !== undefined) {
      event.preventDefault();
      show(to);
    }
  });
  new ResizeObserver(draw).observe(plot);
}

function makeLegend(spec, state, draw) {
  const legend = document.createElement("div");
  legend.className = "legend";
  spec.series.forEach((series, index) => {
    const button = document.createElement("button"), key = document.createElement("i");
    button.type = "button";
    key.style.color = colour(series);
    if (isDashed(series)) key.className = "dashed";
    button.append(key, series.name);
    const press = () => button.setAttribute("aria-pressed", String(!state.hidden.has(index)));
    button.addEventListener("click", () => {
      state.hidden.has(index) ? state.hidden.delete(index) : state.hidden.add(index);
      press();
      draw();
    });
    press();
    legend.append(button);
  });
  return legend;
}

function makeLogSwitch(state, draw) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "toggle";
  button.textContent = "log";
  button.title = "logarithmic axis";
  const press = () => button.setAttribute("aria-pressed", String(state.log));
  button.addEventListener("click", () => {
    state.log = !state.log;
    press();
    draw();
  });
  press();
  return button;
}

function drawLines(spec, state, width) {
  const shown = spec.series.filter((_, index) => !state.hidden.has(index));
  const log = state.log && shown.some((s) => s.y.some((y) => y > 0));
  const usable = (y) => y !== null && (!log || y > 0);
  const xs = spec.xRange ?? [0, extent(shown.flatMap((s) => s.x))[1]];
  const ys = spec.yRange ?? padded(extent(shown.flatMap((s) => s.y.filter(usable))), log);
  const frame = makeFrame(spec, width, xs, ys, log);
  const { svg, px, py } = frame;
  if (spec.diagonal) svg.append(element("line", { x1: px(0), y1: py(0), x2: px(1), y2: py(1), class: "diagonal" }));
  for (const series of shown) {
    let path = "", pen = "M", count = 0;
    series.x.forEach((x, i) => {
      if (!usable(series.y[i])) return void (pen = "M");
      path += `${pen}${px(x).toFixed(1)},${py(series.y[i]).toFixed(1)}`;
      pen = "L";
      count += 1;
    });
    const line = element("path", { d: path, class: "line", stroke: colour(series) });
    if (isDashed(series)) line.setAttribute("stroke-dasharray", "6 5");
    svg.append(line);
    if (count <= 12) {
      series.x.forEach((x, i) => usable(series.y[i]) && svg.append(element("circle", { cx: px(x), cy: py(series.y[i]), r: 3, fill: colour(series) })));
    }
  }
  const cross = element("line", { class: "cross", y1: frame.top, y2: frame.bottom, visibility: "hidden" });
  svg.append(cross);
  const dots = element("g", {});
  svg.append(dots);
  const steps = [...new Set(shown.flatMap((s) => s.x))].sort((a, b) => a - b);
  const places = steps.map((x) => ({ x, px: px(x), values: shown.map((s) => ({ series: s, y: valueAt(s, x, steps) })) }));
  const mark = (place) => {
    cross.setAttribute("visibility", place ? "visible" : "hidden");
    dots.replaceChildren();
    if (!place) return;
    cross.setAttribute("x1", place.px);
    cross.setAttribute("x2", place.px);
    for (const { series, y } of place.values) {
      if (usable(y) && y !== undefined) dots.append(element("circle", { cx: place.px, cy: py(y), r: 4, fill: colour(series) }));
    }
  };
  return { svg, width, places, mark };
}

function drawBars(spec, state, width) {
  const shown = spec.series.filter((_, index) => !state.hidden.has(index));
  const highest = Math.max(0, ...shown.flatMap((s) => s.y.map((y) => y ?? 0)));
  const lowest = Math.min(0, ...shown.flatMap((s) => s.y.map((y) => y ?? 0)));
  const frame = makeFrame(spec, width, [-0.5, spec.names.length - 0.5], [lowest, (highest || 1) * 1.06], false);
  const { svg, px, py } = frame, step = px(1) - px(0), bar = Math.min(46, (step * 0.76) / Math.max(1, shown.length));
  const places = spec.names.map((name, x) => ({ name, px: px(x), values: shown.map((s) => ({ series: s, y: s.y[x] })) }));
  for (const [x, place] of places.entries()) {
    place.values.forEach(({ series, y }, i) => {
      const left = px(x) + (i - shown.length / 2) * bar, top = py(Math.max(0, y ?? 0));
      svg.append(element("rect", { x: left + 1, y: top, width: Math.max(1, bar - 2), height: Math.max(0, Math.abs(py(y ?? 0) - py(0))), rx: 2, fill: colour(series) }));
    });
  }
  const shade = element("rect", { y: frame.top, width: step, height: frame.bottom - frame.top, fill: "currentColor", opacity: 0.07, visibility: "hidden" });
  svg.append(shade);
  const mark = (place) => {
    shade.setAttribute("visibility", place ? "visible" : "hidden");
    if (place) shade.setAttribute("x", place.px - step / 2);
  };
  return { svg, width, places, mark };
}

function makeFrame(spec, width, xs, ys, log) {
  const yTicks = log ? logTicks(ys) : ticks(ys, 6);
  const left = 16 + 7.2 * Math.max(3, ...yTicks.map((t) => format(t).length)), right = 14, top = spec.yLabel ? 30 : 14;
  const slanted = spec.bars && spec.names.length && Math.max(...spec.names.map((n) => n.length)) * 7 > (width - left - right) / spec.names.length;
  const height = width < 400 ? 210 : 250, bottom = height - (slanted ? 64 : spec.xLabel ? 42 : 26);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const px = (x) => left + ((x - xs[0]) / (xs[1] - xs[0] || 1)) * (width - left - right);
  const warp = (y) => (log ? Math.log10(y) : y), low = warp(ys[0]), high = warp(ys[1]);
  const py = (y) => bottom - ((warp(y) - low) / (high - low || 1)) * (bottom - top);
  for (const t of yTicks) {
    svg.append(element("line", { x1: left, x2: width - right, y1: py(t), y2: py(t), class: "grid" }));
    svg.append(label(format(t), left - 7, py(t) + 4, "end"));
  }
  svg.append(element("line", { x1: left, x2: width - right, y1: bottom, y2: bottom, class: "axis" }));
  if (spec.bars) {
    const every = Math.ceil((spec.names.length * 15) / (width - left - right));
    const letters = slanted ? 14 : 40;
    spec.names.forEach((name, x) => {
      if (x % every) return;
      const text = label(name.length > letters ? name.slice(0, letters - 1) + "…" : name, px(x), bottom + 17, slanted ? "end" : "middle");
      if (slanted) text.setAttribute("transform", `rotate(-35 ${px(x)} ${bottom + 12})`);
      svg.append(text);
    });
  } else {
    for (const t of ticks(xs, Math.max(2, Math.floor(width / 90)))) svg.append(label(format(t), px(t), bottom + 17, "middle"));
  }
  if (spec.xLabel) svg.append(label(spec.xLabel, (left + width - right) / 2, height - 4, "middle"));
  if (spec.yLabel) svg.append(label(spec.yLabel, 0, 10, "start"));
  return { svg, px, py, top, bottom };
}

function tipLines(spec, place) {
  const head = document.createElement("b");
  head.textContent = place.name ?? `${format(place.x)} ${spec.xLabel}`;
  const values = place.values.filter(({ y }) => y !== null && y !== undefined).sort((a, b) => b.y - a.y).slice(0, 12);
  return [head, ...values.map(({ series, y }) => {
    const line = document.createElement("div"), name = document.createElement("span"), key = document.createElement("i"), value = document.createElement("b");
    key.style.background = colour(series);
    name.append(key, series.name);
    value.textContent = precise(y);
    line.append(name, value);
    return line;
  })];
}

function describe(spec, state) {
  const parts = spec.series.filter((_, index) => !state.hidden.has(index)).map((s) => {
    const values = s.y.filter((y) => y !== null);
    return values.length ? `${s.name}: ${precise(values[0])} to ${precise(values[values.length - 1])}` : s.name;
  });
  return `${spec.title || "Chart"}. ${parts.slice(0, 8).join("; ")}. Arrow keys read values.`;
}

// A series' value at x; between its own points the last one before, so that runs of other periods can be compared.
function valueAt(series, x, steps) {
  let low = 0, high = series.x.length - 1;
  if (high < 0) return null;
  if (series.x[0] > series.x[high]) return null;
  if (x < series.x[0] || x > series.x[high]) return null;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    series.x[middle] <= x ? (low = middle) : (high = middle - 1);
  }
  return series.y[low];
}
const colour = (series) => `var(--c${series.colour % COLOURS})`;
// colours come again; the second time they are dashed
const isDashed = (series) => series.dashed || Math.floor(series.colour / COLOURS) % 2 === 1;
function nearest(places, px) {
  let best = 0;
  places.forEach((place, i) => Math.abs(place.px - px) < Math.abs(places[best].px - px) && (best = i));
  return best;
}
function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (v !== null) (low = Math.min(low, v)), (high = Math.max(high, v));
  return low > high ? [0, 1] : [low, high];
}
function padded([low, high], log) {
  if (log) return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
  const air = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - air < 0 ? 0 : low >= 0 && low < (high - low) * 0.5 ? 0 : low - air, high + air];
}
function ticks([low, high], count) {
  const raw = (high - low) / Math.max(1, count) || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw), found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-6; t += step) found.push(Math.abs(t) < step * 1e-6 ? 0 : t);
  return found;
}
function logTicks([low, high]) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const m of high / low < 300 ? [1, 2, 5] : [1]) {
      const t = m * 10 ** power;
      if (t >= low && t <= high) found.push(t);
    }
  }
  return found.length > 1 ? found : [low, high];
}
function format(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (size >= 1e4) return +(value / 1e3).toPrecision(4) + "k";
  if (size !== 0 && size < 1e-3) return value.toExponential(0);
  return String(+value.toPrecision(4));
}
const precise = (value) => (Math.abs(value) < 1e-3 && value !== 0 ? value.toExponential(2) : String(+value.toPrecision(4)));
function label(text, x, y, anchor) {
  const node = element("text", { x, y, "text-anchor": anchor });
  node.textContent = text;
  return node;
}
function element(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
document.querySelectorAll("figure.chart").forEach(makeChart);
