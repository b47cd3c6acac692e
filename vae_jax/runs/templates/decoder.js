// The decoder in the browser. Each operation is that of the same name in vae_jax/runs/decoder.py; h is one example.
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const ACTIVATIONS = {
  relu: (x) => Math.max(x, 0),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  tanh: Math.tanh,
  sigmoid,
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  silu: (x) => x * sigmoid(x),
  swish: (x) => x * sigmoid(x),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  identity: (x) => x,
};

function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b)), weights = logits.map((l) => Math.exp(l - most));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / sum);
}

const pixels = (h, size, mean) => Float64Array.from({ length: h.length / size }, (_, n) => mean(h.subarray(n * size, (n + 1) * size)));

const OPERATIONS = {
  dense(h, { kernel, bias }) {
    const y = Float64Array.from(bias), width = bias.length;
    h.forEach((x, n) => { if (x) for (let m = 0, at = n * width; m < width; m++, at++) y[m] += x * kernel[at]; });
    return y;
  },
  act: (h, { name }) => h.map(ACTIVATIONS[name]),
  gate(h, { name }) {
    const half = h.length / 2;
    return h.slice(0, half).map((x, n) => ACTIVATIONS[name](x) * sigmoid(h[half + n]));
  },
  join: (h, layer, context) => Float64Array.from([...h, ...context]),
  up(h, { kernel, bias, shape, height, width, stride }) {  // a transposed convolution
    const [size, , inputs, outputs] = shape, pad = (size - stride) / 2, rows = stride * height, columns = stride * width;
    const y = new Float64Array(rows * columns * outputs);
    for (let n = 0; n < y.length; n++) y[n] = bias[n % outputs];
    for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
      const row = stride * r + i - pad, column = stride * c + j - pad;
      if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
      const to = (row * columns + column) * outputs;
      for (let k = 0; k < inputs; k++) {
        const x = h[(r * width + c) * inputs + k], at = ((i * size + j) * inputs + k) * outputs;
        if (x) for (let m = 0; m < outputs; m++) y[to + m] += x * kernel[at + m];
      }
    }
    return y;
  },
  sigmoid: (h) => h.map(sigmoid),
  scale: (h, { by, plus }) => h.map((x) => by * x + plus),
  mixture: (h, { parts }) => pixels(h, 2 * parts, (of) => (softmax(of.subarray(0, parts)).reduce((sum, p, m) => sum + p * of[parts + m], 0) + 1) / 2),
  expected: (h, { parts }) => pixels(h, parts, (of) => softmax(of).reduce((sum, p, v) => sum + p * v, 0) / (parts - 1)),
};

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function numbers(text, bits) {
  const view = new DataView(bytes(text).buffer);
  if (bits === 32) return Float32Array.from({ length: view.byteLength / 4 }, (_, n) => view.getFloat32(4 * n, true));
  return Float32Array.from({ length: view.byteLength / 2 }, (_, n) => {  // float16: sign, 5 bits of exponent, 10 of fraction
    const half = view.getUint16(2 * n, true), exponent = (half >> 10) & 31, fraction = half & 1023;
    return (half >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}

function decoderOf({ layers, bits, contexts }) {
  const ready = layers.map((layer) => "kernel" in layer ? { ...layer, kernel: numbers(layer.kernel, bits), bias: numbers(layer.bias, bits) } : layer);
  return (z, label = 0) => ready
    .reduce((h, layer) => OPERATIONS[layer.op](h, layer, contexts && contexts[label]), Float64Array.from(z))
    .map((p) => Math.min(1, Math.max(0, p)));
}

// ------------------------------------------------------------------------------------------------ pictures on a canvas

function imageData(values, [height, width, channels]) {
  const data = new ImageData(width, height);
  for (let n = 0; n < height * width; n++) {
    for (let c = 0; c < 3; c++) data.data[4 * n + c] = Math.round(255 * values[n * channels + (channels === 3 ? c : 0)]);
    data.data[4 * n + 3] = 255;
  }
  return data;
}

// Draw images in a row or a grid, each pixel a whole number of device pixels, `gap` pixels apart.
function tiles(canvas, images, size, columns, gap = 0) {
  const [height, width] = size, rows = Math.ceil(images.length / columns);
  canvas.width = columns * (width + gap) - gap;
  canvas.height = rows * (height + gap) - gap;
  const context = canvas.getContext("2d");
  images.forEach((image, n) => context.putImageData(imageData(image, size), n % columns * (width + gap), Math.floor(n / columns) * (height + gap)));
}

// ------------------------------------------------------------------------------------------------------ the workbench

function workbench(section, spec, decode) {
  const find = (selector) => section.querySelector(selector), { low, high, size, classes, contexts } = spec;
  const z = [...spec.start], [i, j] = spec.plane, clamp = (value, d) => Math.min(high[d], Math.max(low[d], value));
  const output = find(".decoded canvas"), label = (d) => `z${d + 1}`;
  let chosen = 0, ends = [0, 0];

  // Sliders, the most active first; those that do nothing are folded away.
  const unit = spec.activity_unit === "nats" ? "nats" : "";
  const sliders = [], group = find(".sliders"), quiet = element("details");
  quiet.append(element("summary"));
  const by = { nats: "rate KL(q(z|x) ‖ p(z))", variance: "variance of their codes" }[spec.activity_unit] ?? "mean change of a pixel";
  group.append(element("p", { class: "quiet" }, `Latent dimensions by ${by}`));
  spec.order.forEach((d) => {
    const row = element("label", {}, element("span", { class: "name" }, label(d)));
    const input = element("input", { type: "range", min: low[d], max: high[d], step: "any", "aria-label": `${label(d)}, ${spec.activity[d]} ${unit}` });
    const value = element("output");
    row.append(input, value, element("span", { class: "quiet" }, `${spec.activity[d].toFixed(2)} ${unit}`));
    input.oninput = () => { z[d] = Number(input.value); show(d !== i && d !== j); };
    sliders.push({ d, input, value });
    (spec.activity[d] < 0.01 && spec.order.length > 2 ? quiet : group).append(row);
  });
  quiet.firstChild.textContent = `${quiet.childElementCount - 1} inactive dimensions`;
  if (quiet.childElementCount > 1) group.append(quiet);

  // The plane: decoded images behind the codes of test images and the point.
  const plane = find(".plane canvas"), hasPlane = j !== undefined, behind = document.createElement("canvas");
  let timer = 0;
  const side = () => plane.width, toX = (v) => (v - low[i]) / (high[i] - low[i]) * side(), toY = (v) => (high[j] - v) / (high[j] - low[j]) * side();
  function drawBehind() {
    const start = performance.now();
    decode(z, chosen);
    const cost = Math.max(performance.now() - start, 0.02), count = Math.max(7, Math.min(15, Math.floor(Math.sqrt(250 / cost))));
    const at = (n, d) => low[d] + (n + 0.5) / count * (high[d] - low[d]), images = [];
    for (let row = 0; row < count; row++) for (let column = 0; column < count; column++) {
      const code = [...z];
      code[i] = at(column, i);
      code[j] = at(count - 1 - row, j);
      images.push(decode(code, chosen));
    }
    tiles(behind, images, size, count);
    drawPlane();
  }
  function drawPlane() {
    const context = plane.getContext("2d");
    context.imageSmoothingEnabled = behind.width > side();
    context.drawImage(behind, 0, 0, side(), side());
    const unit = side() / 360;
    if (spec.codes.length) {  // the images step back behind the codes
      context.fillStyle = "rgb(0 0 0 / 35%)";
      context.fillRect(0, 0, side(), side());
    }
    for (const [x, y, name] of spec.codes) {
      context.beginPath();
      context.arc(toX(x), toY(y), 2.6 * unit, 0, 2 * Math.PI);
      context.fillStyle = COLOURS[name % COLOURS.length];
      context.fill();
      context.lineWidth = 0.7 * unit;
      context.strokeStyle = "#fff";
      context.stroke();
    }
    for (const [width, colour] of [[6, "#000"], [3, "#fff"]]) {
      context.beginPath();
      context.arc(toX(z[i]), toY(z[j]), 8 * unit, 0, 2 * Math.PI);
      context.lineWidth = width * unit;
      context.strokeStyle = colour;
      context.stroke();
    }
  }
  function move(event) {
    const box = plane.getBoundingClientRect();
    z[i] = clamp(low[i] + (event.clientX - box.left) / box.width * (high[i] - low[i]), i);
    z[j] = clamp(high[j] - (event.clientY - box.top) / box.height * (high[j] - low[j]), j);
    show(false);
  }
  if (hasPlane) {
    find(".plane").hidden = false;
    plane.width = plane.height = 720;
    plane.onpointerdown = (event) => { plane.setPointerCapture(event.pointerId); move(event); };
    plane.onpointermove = (event) => { if (plane.hasPointerCapture(event.pointerId)) move(event); };
    plane.onkeydown = (event) => {
      const [d, sign] = { ArrowLeft: [i, -1], ArrowRight: [i, 1], ArrowDown: [j, -1], ArrowUp: [j, 1] }[event.key] ?? [];
      if (d === undefined) return;
      event.preventDefault();
      z[d] = clamp(z[d] + sign * (high[d] - low[d]) / 40, d);
      show(false);
    };
    const caption = find(".plane figcaption"), names = [...new Set(spec.codes.map((code) => code[2]))].sort((a, b) => a - b);
    const fixed = z.length > 2 ? "; the other dimensions stay where their sliders are" : "";
    const ends = (d) => `from ${low[d]} to ${high[d]}`.replaceAll("-", "−");
    caption.append(`${label(i)} to the right, ${ends(i)}; ${label(j)} upwards, ${ends(j)}${fixed}. `);
    if (spec.codes.length) caption.append(element("span", {}, names.length > 1 ? "Dots: codes of test images, by class " : "Dots: codes of test images."));
    if (names.length > 1 && names.length <= 20) names.forEach((name) => {
      const key = element("span", { class: "key" }, classes[name] ?? String(name));
      key.style.setProperty("--colour", COLOURS[name % COLOURS.length]);
      caption.append(key, " ");
    });
  }

  // `others` is true if the images behind the plane are no longer right.
  function show(others) {
    tiles(output, [decode(z, chosen)], size, 1);
    for (const { d, input, value } of sliders) {
      input.value = z[d];
      value.textContent = z[d].toFixed(2).replace("-", "−");
    }
    if (!hasPlane) return;
    drawPlane();
    if (others) { clearTimeout(timer); timer = setTimeout(drawBehind, 120); }
  }

  // Classes and buttons.
  const select = find(".class select");
  if (contexts) {
    find(".class").hidden = false;
    contexts.forEach((_, n) => select.append(element("option", { value: n }, classes[n] ?? String(n))));
    select.onchange = () => { chosen = Number(select.value); show(true); };
  }
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  section.querySelectorAll("[data-do]").forEach((button) => {
    button.onclick = () => { z.forEach((_, d) => { z[d] = button.dataset.do === "draw" ? clamp(normal(), d) : spec.start[d]; }); show(true); };
  });

  // The way between two test images. A conditional model changes from class to class half way.
  const { images } = spec, walk = find(".walk input");
  function go(t) {
    const [a, b] = ends.map((n) => images[n]);
    a.z.forEach((from, d) => { z[d] = from + t * (b.z[d] - from); });
    if (contexts) { chosen = (t < 0.5 ? a : b).label; select.value = chosen; }
    return decode(z, chosen);
  }
  function path() {
    section.querySelectorAll(".thumbs").forEach((row, end) => [...row.children].forEach((button, n) => button.setAttribute("aria-pressed", String(n === ends[end]))));
    tiles(find(".strip"), Array.from({ length: 11 }, (_, n) => go(n / 10)), size, 11, 1);
    go(Number(walk.value));
    show(true);
  }
  if (images.length > 1) {
    find(".path").hidden = false;
    ends = [0, 1];
    section.querySelectorAll(".thumbs").forEach((row, end) => images.forEach((image, n) => {
      const name = image.label === null ? "" : `, class ${classes[image.label] ?? image.label}`;
      const button = element("button", { type: "button", "aria-label": `test image ${n + 1}${name}` }), canvas = element("canvas");
      tiles(canvas, [bytes(image.pixels)].map((p) => Float64Array.from(p, (v) => v / 255)), size, 1);
      button.append(canvas);
      button.onclick = () => { ends[end] = n; walk.value = end; path(); };
      row.append(button);
    }));
    walk.oninput = () => { go(Number(walk.value)); show(true); };
    const start = [...z], first = chosen;
    path();
    start.forEach((value, d) => { z[d] = value; });
    chosen = first;
    if (contexts) select.value = chosen;
  }
  show(false);
  if (hasPlane) { clearTimeout(timer); drawBehind(); }
}
