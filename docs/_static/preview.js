/* The gallery's preview: a schedule whose arguments are sliders, and its curve.
 *
 * tests/test_preview.py compares the curves with Schedule.values(), in a browser. Without a module,
 * so that it also runs in a page that is opened from a disk.
 */
"use strict";

(() => {
  const EPOCHS = 30;
  const STEPS = 50; // in an epoch

  // Arguments ---------------------------------------------------------------------------------
  // Each has the values that its slider stands for, how Python writes one, and the value that
  // Python takes where none is given. An argument without such a value is written by its place.

  const decades = (...mantissas) =>
    [-5, -4, -3, -2, -1, 0].flatMap((power) =>
      mantissas.map((mantissa) => Number(`${mantissa}e${power}`)),
    ).filter((rate) => rate <= 1);
  const RATES = decades(1, 1.5, 2, 3, 5, 7);
  const range = (from, to, step = 1) =>
    Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) =>
      Number((from + i * step).toPrecision(6)),
    );
  const capital = (flag) => (flag ? "True" : "False");
  const quoted = (text) => `"${text}"`;

  const slider = (name, values, initial, usual, unit = "", write = String) => ({
    name, values, initial, usual, unit, write,
  });
  const rate = (name, initial, usual) => slider(name, RATES, initial, usual);
  const rateOrZero = (name, initial, usual) => slider(name, [0, ...RATES], initial, usual);
  const epochs = (name, initial, usual) => slider(name, range(1, EPOCHS), initial, usual, "epochs");
  const share = (name, from, to, usual) =>
    slider(name, range(from, to), usual, usual, "%", (percent) => quoted(`${percent}%`));
  const over = () => slider("over", [...range(1, EPOCHS - 1), "rest"], "rest", "rest", "epochs");
  const choice = (name, values) => ({
    name, values, initial: values[0], usual: values[0], write: quoted, kind: "choice",
  });
  const flag = (name) => ({
    name, values: [false, true], initial: false, usual: false, write: capital, kind: "flag",
  });

  // Formulas ----------------------------------------------------------------------------------
  // Each is the value at step t of a schedule with the arguments a, of a training run of which `rest`
  // steps are left, and `total` are all.

  const lerp = (start, end, weight) => (1 - weight) * start + weight * end;
  const RAMPS = {
    linear: (done) => done,
    cosine: (done) => Math.sin((Math.PI / 2) * done) ** 2,
    sqrt: Math.sqrt,
    square: (done) => done ** 2,
  };
  const lengthOf = (amount, rest) => (amount === "rest" ? rest : amount * STEPS);
  const doneOf = (t, length) =>
    length <= 0 ? (t > 0 ? 1 : 0) : Math.min(Math.max(t / length, 0), 1);
  const progress = (t, a, rest) => {
    const length = lengthOf(a.over, rest);
    return doneOf(t, a.endpoint ? Math.max(length - 1, 0) : length);
  };
  const periods = (t, period) => Math.floor((t / period) * (1 + 1e-12));

  const SHAPES = {
    Constant: {
      arguments: [rate("lr", 0.1)],
      value: (t, a) => a.lr,
    },
    PiecewiseConstant: {
      arguments: [
        epochs("first boundary", 10), epochs("second boundary", 20),
        rate("first rate", 0.1), rate("second rate", 0.03), rate("third rate", 0.01),
      ],
      repair: (a) => {
        a["first boundary"] = Math.min(a["first boundary"], EPOCHS - 1);
        a["second boundary"] = Math.max(a["second boundary"], a["first boundary"] + 1);
      },
      write: (a) =>
        `[${a["first boundary"]}, ${a["second boundary"]}], ` +
        `[${a["first rate"]}, ${a["second rate"]}, ${a["third rate"]}]`,
      value: (t, a) =>
        t < a["first boundary"] * STEPS ? a["first rate"]
          : t < a["second boundary"] * STEPS ? a["second rate"] : a["third rate"],
    },
    StepDecay: {
      arguments: [
        rate("initial_lr", 0.1), slider("factor", range(0.05, 1, 0.05), 0.5, 0.5),
        epochs("every", 6, 10),
      ],
      value: (t, a) => a.initial_lr * a.factor ** periods(t, a.every * STEPS),
    },
    LinearDecay: {
      arguments: [rate("initial_lr", 0.1), rateOrZero("final_lr", 0, 0), over(), flag("endpoint")],
      value: (t, a, rest) => lerp(a.initial_lr, a.final_lr, progress(t, a, rest)),
    },
    PolynomialDecay: {
      arguments: [
        rate("initial_lr", 0.1), rateOrZero("final_lr", 0, 0),
        slider("power", range(0.1, 5, 0.1), 2, 2), over(), flag("endpoint"),
      ],
      value: (t, a, rest) =>
        lerp(a.final_lr, a.initial_lr, (1 - progress(t, a, rest)) ** a.power),
    },
    TimeDecay: {
      arguments: [
        rate("initial_lr", 0.1), slider("rate", range(0.05, 2, 0.05), 0.2),
        epochs("every", 1, 1), flag("compounding"),
      ],
      value: (t, a) => {
        if (!a.compounding) {
          return a.initial_lr / (1 + (a.rate * t) / (a.every * STEPS));
        }
        let product = 1;
        for (let k = 1; k <= periods(t, a.every * STEPS); k += 1) {
          product /= 1 + a.rate * k;
        }
        return a.initial_lr * product;
      },
    },
    ExponentialDecay: {
      arguments: [
        rate("initial_lr", 0.1), slider("factor", range(0.5, 1, 0.01), 0.9, 0.96),
        epochs("every", 1, 1),
      ],
      value: (t, a) => a.initial_lr * a.factor ** (t / (a.every * STEPS)),
    },
    InverseSqrtDecay: {
      arguments: [rate("initial_lr", 0.1), epochs("timescale", 2)],
      value: (t, a) => a.initial_lr * Math.sqrt((a.timescale * STEPS) / (a.timescale * STEPS + t)),
    },
    CosineDecay: {
      arguments: [rate("initial_lr", 0.1), rateOrZero("final_lr", 0, 0), over(), flag("endpoint")],
      value: (t, a, rest) =>
        lerp(a.initial_lr, a.final_lr, RAMPS.cosine(progress(t, a, rest))),
    },
    TriangularCLR: {
      arguments: [
        rateOrZero("base_lr", 0.01), rate("max_lr", 0.1), epochs("step_size", 4, 4),
        choice("mode", ["triangular", "triangular2", "exp_range"]),
        slider("gamma", range(0.99, 1, 0.0005), 1, 1),
      ],
      repair: (a) => {
        a.base_lr = Math.min(a.base_lr, a.max_lr);
      },
      value: (t, a) => {
        const half = a.step_size * STEPS;
        const cycle = periods(t, 2 * half);
        const up = t - cycle * 2 * half;
        const height = { triangular: 1, triangular2: 0.5 ** cycle, exp_range: a.gamma ** t };
        return a.base_lr +
          (a.max_lr - a.base_lr) * (Math.min(up, 2 * half - up) / half) * height[a.mode];
      },
    },
    CosineRestarts: {
      arguments: [
        rate("initial_lr", 0.1), rateOrZero("final_lr", 0, 0), epochs("first_cycle", 4, 10),
        slider("cycle_mult", range(1, 3, 0.25), 2, 2), slider("lr_mult", range(0.1, 1, 0.05), 1, 1),
      ],
      value: (t, a) => {
        const first = a.first_cycle * STEPS;
        let [cycle, start, length] = [0, 0, first];
        while (t >= start + length) {
          [cycle, start, length] = [cycle + 1, start + length, length * a.cycle_mult];
        }
        const peak = a.initial_lr * a.lr_mult ** cycle;
        return lerp(peak, a.final_lr, RAMPS.cosine((t - start) / length));
      },
    },
    OneCycle: {
      arguments: [
        rate("max_lr", 0.1), over(), share("warmup", 0, 90, 30),
        slider("div", [1, 2, 5, 10, 25, 50, 100], 25, 25),
        slider("final_div", [1, 10, 100, 1000, 10000], 10000, 10000),
        choice("shape", ["cosine", "linear"]), flag("endpoint"),
      ],
      value: (t, a, rest) => {
        const whole = lengthOf(a.over, rest);
        const rise = (whole * a.warmup) / 100;
        const [peakAt, end] = a.endpoint ? [Math.max(rise - 1, 0), whole - 1] : [rise, whole];
        const first = a.max_lr / a.div;
        const at = Math.min(t, whole);
        return at < peakAt
          ? lerp(first, a.max_lr, RAMPS[a.shape](doneOf(at, peakAt)))
          : lerp(a.max_lr, first / a.final_div, RAMPS[a.shape](doneOf(at - peakAt, end - peakAt)));
      },
    },
    WarmupStableDecay: {
      // Both shares fit into what a warm-up of 10 epochs leaves.
      arguments: [
        rate("max_lr", 0.1), share("warmup", 0, 30, 5), share("decay", 0, 30, 20),
        choice("shape", Object.keys(RAMPS)),
      ],
      value: (t, a, rest, total) => {
        const [rise, fall] = [(total * a.warmup) / 100, (total * a.decay) / 100];
        if (t < rise) {
          return (a.max_lr * t) / rise;
        }
        const done = fall ? doneOf(t - (rest - fall), fall) : 0;
        return a.max_lr * (1 - RAMPS[a.shape](done));
      },
    },
  };

  /** What may follow every shape. */
  const METHODS = [
    { ...slider("warmup", range(0, 10), 0, 0, "epochs"), label: ".warmup(...)" },
    { ...flag("per_epoch"), label: ".per_epoch()" },
  ];

  /** Return the rate of each step. */
  function values(name, a, methods) {
    const total = EPOCHS * STEPS;
    const rise = methods.warmup * STEPS;
    const at = (t) => SHAPES[name].value(t, a, total - rise, total);
    return Array.from({ length: total }, (_, step) => {
      const t = methods.per_epoch ? Math.floor(step / STEPS) * STEPS : step;
      return t < rise ? (at(0) * t) / rise : at(t - rise);
    });
  }

  /** Return the schedule in Python. */
  function code(name, a, methods) {
    const shape = SHAPES[name];
    const written = shape.arguments
      .filter((one) => one.usual === undefined || a[one.name] !== one.usual)
      .map((one) => (one.usual === undefined ? "" : `${one.name}=`) + one.write(a[one.name]));
    const inside = shape.write ? shape.write(a) : written.join(", ");
    const warmup = methods.warmup ? `.warmup(${methods.warmup})` : "";
    return `${name}(${inside})${warmup}${methods.per_epoch ? ".per_epoch()" : ""}`;
  }

  // The page ----------------------------------------------------------------------------------

  const element = (name, attributes = {}, ...children) => {
    const svg = ["svg", "path", "text"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };

  /** Return the control of an argument: its row, and functions to get and to set its value. */
  function control(argument, group, changed) {
    const id = `preview-${group}-${argument.name.replaceAll(" ", "-")}`;
    const label = element("label", { for: id }, argument.label ?? argument.name);
    const shown = element("output", { for: id });
    let input;
    if (argument.kind === "choice") {
      const options = argument.values.map((value) => element("option", { value }, value));
      input = element("select", { id }, ...options);
    } else if (argument.kind === "flag") {
      input = element("input", { id, type: "checkbox" });
    } else {
      input = element("input", { id, type: "range", min: 0, max: argument.values.length - 1 });
    }
    const get = () =>
      argument.kind === "choice" ? input.value
        : argument.kind === "flag" ? input.checked : argument.values[Number(input.value)];
    const set = (value) => {
      if (argument.kind === "choice") {
        input.value = value;
      } else if (argument.kind === "flag") {
        input.checked = value;
      } else {
        input.value = argument.values.indexOf(value);
        shown.textContent = value === "rest" ? value : `${value} ${argument.unit}`;
        input.setAttribute("aria-valuetext", shown.textContent);
      }
    };
    set(argument.initial);
    input.addEventListener("input", changed);
    const parts = argument.kind ? [label, input] : [label, input, shown];
    return { get, set, row: element("div", { class: "preview-row" }, ...parts) };
  }

  const short = (value) => String(Number(value.toPrecision(3)));

  /** Draw a curve as wide as its picture is, so that the letters have the size of the page's. */
  function draw(picture, curve) {
    const [width, height, left, right, top, bottom] = [picture.clientWidth, 240, 52, 12, 24, 24];
    const highest = Math.max(...curve);
    const x = (step) => left + ((width - left - right) * step) / curve.length;
    const y = (value) => top + (height - top - bottom) * (1 - value / (highest || 1));
    const points = curve.map((value, step) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
    const marks = [0, 0.5, 1].map((share) => share * highest);
    const grid = marks.map((value) => `M${left} ${y(value)}H${width - right}`).join("");
    const text = (across, down, anchor, words) =>
      element("text", { x: across, y: down, "text-anchor": anchor }, words);
    const label = `Learning rate over ${EPOCHS} epochs: from ${short(curve[0])} to ` +
      `${short(curve.at(-1))}, at most ${short(highest)}`;
    const svg = element(
      "svg",
      { role: "img", "aria-label": label, viewBox: `0 0 ${width} ${height}`, height },
      element("path", { class: "preview-grid", d: grid }),
      element("path", { class: "preview-curve", d: `M${points.join("L")}` }),
      text(left, 14, "start", "learning rate"),
      text(width - right, 14, "end", "epochs"),
      ...marks.map((value) => text(left - 6, y(value) + 4, "end", short(value))),
      ...range(0, EPOCHS, 5).map((epoch) =>
        text(x(epoch * STEPS), height - 6, epoch === EPOCHS ? "end" : "middle", String(epoch))),
    );
    picture.replaceChildren(svg);
  }

  function begin(place) {
    const names = Object.keys(SHAPES);
    const select = element(
      "select", { id: "preview-schedule" }, ...names.map((name) => element("option", {}, name)),
    );
    select.value = "CosineDecay";
    const choose = element(
      "div", { class: "preview-row" },
      element("label", { for: "preview-schedule" }, "schedule"), select,
    );
    const own = element("fieldset", {}, element("legend", {}, "arguments"));
    const after = element("fieldset", {}, element("legend", {}, "then"));
    const picture = element("div", { class: "preview-picture" });
    const written = element("code");
    const said = element("output", { class: "preview-code", "aria-live": "polite" }, written);
    let controls = {};
    const methods = Object.fromEntries(METHODS.map((one) => [one.name, control(one, "then", show)]));
    after.append(...Object.values(methods).map((one) => one.row));

    const read = (some) =>
      Object.fromEntries(Object.entries(some).map(([name, one]) => [name, one.get()]));

    function show() {
      const [name, chosen, followed] = [select.value, read(controls), read(methods)];
      SHAPES[name].repair?.(chosen);
      Object.entries(controls).forEach(([argument, one]) => one.set(chosen[argument]));
      Object.entries(methods).forEach(([method, one]) => one.set(followed[method]));
      written.textContent = code(name, chosen, followed);
      place.curve = values(name, chosen, followed);
      draw(picture, place.curve);
    }

    function begins() {
      const some = SHAPES[select.value].arguments;
      controls = Object.fromEntries(some.map((one) => [one.name, control(one, "argument", show)]));
      const rows = Object.values(controls).map((one) => one.row);
      own.replaceChildren(own.firstChild, ...rows);
      show();
    }

    select.addEventListener("input", begins);
    place.replaceChildren(
      element("div", {}, picture, said), element("div", {}, choose, own, after),
    );
    begins();
    new ResizeObserver(() => draw(picture, place.curve)).observe(picture);
  }

  document.querySelectorAll(".preview").forEach(begin);
})();
