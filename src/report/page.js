"use strict";
// Reading values off the drawings, by pointer or by arrow keys. Without it the page says the same, in titles and tables.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const series = data.series;
  const bins = Math.min(series.state.length, Math.max(1, Math.ceil(data.ticks / data.bin_ticks)));
  const limit = (value, most) => Math.max(0, Math.min(most, value));
  const bytes = (value) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (value >= 1024 && unit + 1 < units.length) { value /= 1024; unit += 1; }
    return unit ? `${value.toFixed(2)} ${units[unit]}` : `${value} B`;
  };
  const inBytes = new Set(["resident", "capacity", "read"]);
  const hint = "Point at a drawing, or focus it and use the arrow keys, to read values.";
  // Said once for each kind of drawing.
  const rest = (chart, chartsOfKind) => { chart.readout.textContent = chart === chartsOfKind[0] ? hint : ""; };

  const say = (readout, pairs) => {
    readout.replaceChildren();
    pairs.forEach(([name, value], index) => {
      if (index) readout.append(" · ");
      readout.append(`${name} `);
      const strong = document.createElement("b");
      strong.textContent = value;
      readout.append(strong);
    });
  };
  const prepare = (readout) => {
    const box = readout.previousElementSibling;
    const svg = box && box.querySelector("svg");
    if (!svg) return null;
    readout.hidden = false;
    box.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
    box.addEventListener("blur", () => readout.removeAttribute("aria-live"));
    return { readout, box, svg };
  };
  const place = (svg, event) => {
    const box = svg.getBoundingClientRect();
    const scale = data.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const reveal = (chart, x) => {
    const at = (x / data.width) * chart.svg.getBoundingClientRect().width;
    const { scrollLeft, clientWidth } = chart.box;
    if (at < scrollLeft + 20 || at > scrollLeft + clientWidth - 20) chart.box.scrollLeft = at - clientWidth / 2;
  };

  // Over time: one cursor in all drawings.
  const charts = [...document.querySelectorAll("[data-fields]")].map(prepare).filter(Boolean);
  for (const chart of charts) rest(chart, charts);
  let at = 0;
  const show = (index) => {
    at = limit(index, bins - 1);
    const first = at * data.bin_ticks;
    const last = Math.min(first + data.bin_ticks, data.ticks) - 1;
    const when = last > first ? ["ticks", `${first} to ${last}`] : ["tick", `${first}`];
    const share = Math.min(1, ((at + 0.5) * data.bin_ticks) / Math.max(1, data.ticks));
    const x = data.left + (data.right - data.left) * share;
    for (const chart of charts) {
      const line = chart.svg.querySelector(".cursor");
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.classList.add("on");
      const fields = chart.readout.dataset.fields.split(" ").map((name) => {
        const value = series[name][at];
        return [name, inBytes.has(name) ? bytes(value) : `${value}`];
      });
      say(chart.readout, [when, ...fields]);
    }
    return x;
  };
  const hide = () => {
    for (const chart of charts) {
      chart.svg.querySelector(".cursor").classList.remove("on");
      rest(chart, charts);
    }
  };
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity };
  for (const chart of bins && series.state.length ? charts : []) {
    chart.svg.addEventListener("pointermove", (event) => {
      const share = (place(chart.svg, event)[0] - data.left) / (data.right - data.left);
      show(Math.floor((share * data.ticks) / data.bin_ticks));
    });
    chart.svg.addEventListener("pointerleave", hide);
    chart.box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      const step = steps[event.key];
      if (step === undefined) return;
      event.preventDefault();
      reveal(chart, show(at + step * (event.shiftKey ? 10 : 1)));
    });
    chart.box.addEventListener("scroll", () => {
      for (const other of charts) if (other !== chart) other.box.scrollLeft = chart.box.scrollLeft;
    });
  }

  // Experts: one cell a map.
  const top = 6;
  const maps = [...document.querySelectorAll("[data-map]")].map(prepare).filter(Boolean);
  for (const chart of maps) {
    const { readout } = chart;
    rest(chart, maps);
    const map = Number(readout.dataset.map);
    const worked = data.experts.worked[map];
    const [width, height] = data.cell;
    const cell = chart.svg.querySelector(".cell");
    let [layer, expert] = [0, 0];
    const mark = (row, column) => {
      layer = limit(row, worked.length - 1);
      expert = limit(column, worked[layer].length - 1);
      cell.setAttribute("x", data.left + width * expert - 0.5);
      cell.setAttribute("y", top + height * layer - 0.5);
      cell.classList.add("on");
      const share = (100 * worked[layer][expert]) / Math.max(1, data.experts.tokens[map]);
      say(readout, [
        ["layer", `${data.experts.layers[layer]}`],
        ["expert", `${expert}`],
        ["worked on", `${worked[layer][expert]} of ${data.experts.tokens[map]} tokens (${share.toFixed(1)} %)`],
      ]);
    };
    const clear = () => { cell.classList.remove("on"); rest(chart, maps); };
    chart.svg.addEventListener("pointermove", (event) => {
      const [x, y] = place(chart.svg, event);
      mark(Math.floor((y - top) / height), Math.floor((x - data.left) / width));
    });
    chart.svg.addEventListener("pointerleave", clear);
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] };
    chart.box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") clear();
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      mark(layer + move[0], expert + move[1]);
      reveal(chart, data.left + width * expert);
    });
  }

  // On paper nothing can be opened.
  addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details")) fold.open = true; });
})();
