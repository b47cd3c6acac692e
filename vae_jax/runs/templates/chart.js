// Curves as inline SVG that answer to the pointer. `quantities` is {quantity: [{name, steps, values}, ...]}; the place of
// a curve's name in `all` decides its colour.
const COLOURS = ["#3f90da", "#e76300", "#832db6", "#2e9e6b", "#bd1f01", "#b58900", "#717581", "#a96b59", "#d6409f", "#1f9fae"];

function element(name, attributes = {}, text = "") {
  const isShape = ["svg", "g", "line", "path", "circle", "text", "clipPath", "rect"].includes(name);
  const node = isShape ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== "") node.append(text);
  return node;
}

const shown = (value) => Number(value.toPrecision(5)).toString().replace("-", "−");

// The ends of an axis without the lowest and the highest 5 % of each curve, plus a margin; and whether points are outside.
function limits(curves) {
  let low = Infinity, high = -Infinity, least = Infinity, most = -Infinity;
  for (const { values } of curves) {
    const sorted = [...values].sort((a, b) => a - b), last = sorted.length - 1;
    low = Math.min(low, sorted[Math.floor(0.05 * last)]);
    high = Math.max(high, sorted[Math.ceil(0.95 * last)]);
    least = Math.min(least, sorted[0]);
    most = Math.max(most, sorted[last]);
  }
  const room = 0.12 * (high - low) || Math.abs(high) * 0.1 || 1;
  const ends = [Math.max(low - room, least - room / 4), Math.min(high + room, most + room / 4)];
  return { ends, cut: least < ends[0] || most > ends[1] };
}

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
}

function chart(box, quantities, all = [...new Set(Object.values(quantities).flat().map((curve) => curve.name))]) {
  const names = Object.keys(quantities), hidden = new Set();
  let quantity = names[0], place = null;  // place: the step under the pointer
  const head = element("div", { class: "chart-head" }), plot = element("div", { class: "plot" });
  const readout = element("p", { class: "readout quiet", "aria-live": "polite" });
  const legend = element("div", { class: "legend", role: "group", "aria-label": "Curves" });
  const choice = element("select", { "aria-label": "Quantity" });
  names.forEach((name) => choice.append(element("option", { value: name }, name.replaceAll("_", " "))));
  choice.onchange = () => { quantity = choice.value; place = null; draw(); };
  head.append(choice, legend);
  box.append(head, plot, readout);

  const colour = (curve) => COLOURS[all.indexOf(curve.name) % COLOURS.length];
  const dash = (curve) => ["none", "6 3", "2 3"][Math.floor(all.indexOf(curve.name) / COLOURS.length) % 3];
  all.forEach((name) => {
    const button = element("button", { type: "button", "aria-pressed": "true" }, name);
    button.style.setProperty("--colour", colour({ name }));
    button.onclick = () => {
      hidden.has(name) ? hidden.delete(name) : hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      draw();
    };
    legend.append(button);
  });

  const visible = () => quantities[quantity].filter((curve) => !hidden.has(curve.name) && curve.values.length);

  function draw() {
    const width = Math.max(280, plot.clientWidth), height = Math.min(300, Math.max(200, width * 0.5));
    const left = 58, right = 12, top = 10, bottom = 36, curves = visible();
    plot.replaceChildren();
    if (!curves.length) { readout.textContent = "no curve is shown"; return; }
    const { ends: [low, high], cut } = limits(curves);
    const first = Math.min(0, ...curves.map((curve) => curve.steps[0])), last = Math.max(first + 1, ...curves.map((curve) => curve.steps.at(-1)));
    const x = (step) => left + (step - first) / (last - first) * (width - left - right);
    const y = (value) => height - bottom - (value - low) / (high - low) * (height - top - bottom);
    const svg = element("svg", { width, height, role: "img", tabindex: 0, "aria-label": `${quantity} against the training step; the arrow keys read values` });
    const clip = `clip-${box.id}`;
    svg.append(element("clipPath", { id: clip }));
    svg.firstChild.append(element("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }));
    for (const value of ticks(low, high, 5)) {
      svg.append(element("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
      svg.append(element("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, shown(value)));
    }
    for (const step of ticks(first, last, width < 500 ? 3 : 6)) {
      svg.append(element("text", { x: x(step), y: height - bottom + 18, "text-anchor": "middle" }, Math.abs(step) >= 1000 ? `${step / 1000}k` : String(step)));
    }
    svg.append(element("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
    svg.append(element("text", { x: (left + width - right) / 2, y: height - 2, "text-anchor": "middle" }, "step"));
    for (const curve of curves) {
      const path = curve.steps.map((step, n) => `${n ? "L" : "M"}${x(step).toFixed(1)} ${y(curve.values[n]).toFixed(1)}`).join("");
      svg.append(element("path", { class: "curve", d: path, stroke: colour(curve), "stroke-dasharray": dash(curve), "clip-path": `url(#${clip})` }));
      if (curve.steps.length === 1) svg.append(element("circle", { cx: x(curve.steps[0]), cy: y(curve.values[0]), r: 3, fill: colour(curve) }));
    }
    const cursor = element("g");
    svg.append(cursor);
    plot.append(svg);

    function read() {
      cursor.replaceChildren();
      const note = cut ? " The axis leaves out extreme values." : "";
      if (place === null) { readout.textContent = `Point at the curves to read values.${note}`; return; }
      const parts = curves.map((curve) => {
        const n = curve.steps.reduce((best, step, i) => Math.abs(step - place) < Math.abs(curve.steps[best] - place) ? i : best, 0);
        cursor.append(element("circle", { cx: x(curve.steps[n]), cy: Math.min(height - bottom, Math.max(top, y(curve.values[n]))), r: 3.5, fill: colour(curve) }));
        return `${curve.name} ${shown(curve.values[n])}${curve.steps[n] === place ? "" : ` (step ${curve.steps[n]})`}`;
      });
      cursor.prepend(element("line", { class: "cursor", x1: x(place), x2: x(place), y1: top, y2: height - bottom }));
      readout.textContent = `step ${place}: ${parts.join(", ")}`;
    }
    const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
    const nearest = (step) => steps.reduce((best, other) => Math.abs(other - step) < Math.abs(best - step) ? other : best, steps[0]);
    svg.onpointermove = svg.onpointerdown = (event) => {
      const at = event.clientX - svg.getBoundingClientRect().left;
      place = nearest(first + (at - left) / (width - left - right) * (last - first));
      read();
    };
    svg.onpointerleave = () => { place = null; read(); };
    svg.onkeydown = (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      place = steps[Math.min(steps.length - 1, Math.max(0, place === null ? (move > 0 ? 0 : steps.length - 1) : steps.indexOf(nearest(place)) + move))];
      read();
    };
    read();
  }
  let width = 0;
  new ResizeObserver(() => { if (plot.clientWidth !== width) { width = plot.clientWidth; draw(); } }).observe(plot);
}
