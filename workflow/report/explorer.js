// What the explorer draws, of the tables that stand in it. Nothing is estimated here: intervals, means and texts are the tables'.
// The view is the fragment of the address, so that a link restores it. Texts of cells become text nodes, and in charts they are escaped.
"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("contents").textContent);
  const CHARTS = 12; // drawn at a time
  const PAIRS = 30; // lines of a forest at a time
  const ROWS = 300; // of a table under a chart; a download has all
  const DEFAULTS = {
    view: "curves", model: null, task: null, pattern: null, metric: "headline", by: "pattern", page: "1", between: "all",
    pairs: "1", layers: "", share: "rate", items: "",
  };
  const LISTS = ["model", "task", "pattern"];
  const VIEWS = ["curves", "pairs", "layers", "items", "data"];
  const GLYPHS = {
    circle: "M8 4a4 4 0 1 0 .01 0z", square: "M4 4h8v8H4z", "triangle-up": "M8 3l5 9H3z", "triangle-down": "M8 13L3 4h10z",
    "triangle-left": "M3 8l9-5v10z", "triangle-right": "M13 8L4 3v10z", "x-thin-open": "M4 4l8 8M12 4l-8 8",
    x: "M5 3l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z", cross: "M6 3h4v3h3v4h-3v3H6v-3H3V6h3z",
    diamond: "M8 2l6 6-6 6-6-6z", "diamond-tall": "M8 2l4 6-4 6-4-6z", pentagon: "M8 2.5l5.5 4-2 6.500h-7l-2-6.500z",
    hexagon: "M8 2l5.200 3v6L8 14l-5.200-3V5z", octagon: "M5.500 2h5L14 5.500v5L10.500 14h-5L2 10.500v-5z",
  };
  const WRONG = "#D55E00";
  const RIGHT = "#56B4E9";

  // ---- tables

  const cell = (column, row) => ("all" in column ? column.all : "of" in column ? column.of[column.at[row]] : column.each[row]);
  const unpack = (table) =>
    Array.from({ length: table.rows }, (_, row) =>
      Object.fromEntries(Object.entries(table.columns).map(([name, column]) => [name, cell(column, row)])));
  const key = (...parts) => JSON.stringify(parts);
  const CURVES = unpack(DATA.curves);
  const KNEES = unpack(DATA.knees);
  const COMPARED = unpack(DATA.comparisons);
  const DIFFERENT = unpack(DATA.differences);
  const LEVELS = unpack(DATA.layers.levels);
  const curveOf = new Map(CURVES.map((row) => [key(row.model, row.task, row.pattern, row.metric), row]));
  const kneeOf = new Map(KNEES.map((row) => [key(row.model, row.task, row.pattern, row.metric), row]));
  const headlines = new Set(CURVES.filter((row) => row.headline).map((row) => key(row.task, row.metric)));
  const KNOWN = {
    model: Object.keys(DATA.models),
    task: Object.keys(DATA.tasks),
    pattern: Object.keys(DATA.patterns).filter((name) => name !== "dense"),
  };
  const LABELS = {
    model: (name) => DATA.models[name] ?? name,
    task: (name) => DATA.tasks[name] ?? name,
    pattern: (name) => DATA.patterns[name]?.label ?? name,
    metric: (name) => DATA.metrics[name]?.label ?? name,
  };
  const place = Object.fromEntries(LISTS.map((what) => [what, new Map(KNOWN[what].map((name, number) => [name, number]))]));

  // ---- texts

  const minus = (text) => String(text).replace("-", "−");
  const number = (value, digits = 4) => (value === null || value === undefined ? "–" : minus(Number(value.toPrecision(digits))));
  const percent = (value) => (value === null || value === undefined ? "–" : `${minus(Number((100 * value).toFixed(2)))} %`);
  const inUnit = (metric, value) => (DATA.metrics[metric]?.percent ? percent(value) : number(value));
  const count = (many, one, several = `${one}s`) => `${many.toLocaleString("en")} ${many === 1 ? one : several}`;
  const interval = (low, high, shown) => `${low === null ? "beyond the levels" : shown(low)} to ${high === null ? "beyond the levels" : shown(high)}`;
  // plotly reads some tags in texts: none of a cell is left
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\s+/g, " ");
  const lines = (...texts) => texts.filter((text) => text !== null && text !== undefined && text !== "").map(escaped).join("<br>");
  const scale = (metric) => (DATA.metrics[metric]?.percent ? 100 : 1);

  // ---- elements: texts are text nodes

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) {
      if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
      else if (value === true) made.setAttribute(attribute, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(attribute, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  };
  const swatch = (colour, symbol) => {
    const namespace = "http://www.w3.org/2000/svg";
    const image = document.createElementNS(namespace, "svg");
    for (const [name, value] of Object.entries({ width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" })) image.setAttribute(name, value);
    const mark = document.createElementNS(namespace, "path");
    const thin = symbol === "x-thin-open";
    for (const [name, value] of Object.entries({ d: `M0 8h16${thin ? "" : "v.01"}`, stroke: colour, "stroke-width": 1.5, fill: "none" })) mark.setAttribute(name, value);
    const glyph = document.createElementNS(namespace, "path");
    for (const [name, value] of Object.entries({ d: GLYPHS[symbol] ?? GLYPHS.circle, fill: thin ? "none" : colour, stroke: colour, "stroke-width": thin ? 2 : 0.5 })) glyph.setAttribute(name, value);
    image.append(mark, glyph);
    return image;
  };
  const table = (caption, columns, rows) => {
    const shown = rows.slice(0, ROWS);
    const numeric = (column) => rows.some((row) => typeof column.of(row) === "number");
    const numbers = columns.map(numeric);
    const head = element("tr", {}, ...columns.map((column, at) => element("th", { scope: "col", class: numbers[at] ? "number" : null }, column.name)));
    const body = shown.map((row) =>
      element("tr", {}, ...columns.map((column, at) => {
        const value = column.of(row);
        const text = value === null || value === undefined ? "–" : value === true ? "yes" : value === false ? "no" : typeof value === "number" ? minus(value) : value;
        return element("td", { class: numbers[at] ? "number" : "text" }, text);
      })));
    const wrapped = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body)));
    if (rows.length > shown.length) wrapped.append(element("p", { class: "soft" }, `${(rows.length - shown.length).toLocaleString("en")} more rows are in the download.`));
    return wrapped;
  };
  const folded = (summary, make, open = false) => {
    const found = element("details", {}, element("summary", {}, summary));
    const fill = () => found.childElementCount === 1 && found.append(make());
    found.addEventListener("toggle", fill);
    found.fill = fill;
    if (open) { fill(); found.open = true; }
    return found;
  };
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const csv = (columns, rows) => [columns.map((column) => column.name), ...rows.map((row) => columns.map((column) => column.of(row)))].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const save = (name, text) => {
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    element("a", { href: address, download: `${DATA.study}-${name}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };
  const columns = (...names) => names.map((name) => ({ name, of: (row) => row[name] }));

  // ---- the state is the fragment

  const parse = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const found = { ...DEFAULTS };
    for (const [name, value] of given) if (name in DEFAULTS && !LISTS.includes(name)) found[name] = value;
    for (const name of LISTS) if (given.has(name)) found[name] = given.getAll(name).filter((value) => place[name].has(value));
    if (!VIEWS.includes(found.view)) found.view = DEFAULTS.view;
    if (found.metric !== "headline" && !(found.metric in DATA.metrics)) found.metric = DEFAULTS.metric;
    if (!["pattern", "model", "task"].includes(found.by)) found.by = DEFAULTS.by;
    if (!["all", "pattern", "model"].includes(found.between)) found.between = DEFAULTS.between;
    if (!["rate", "share"].includes(found.share)) found.share = DEFAULTS.share;
    return found;
  };
  const fragment = (wanted) => {
    const found = new URLSearchParams();
    for (const [name, value] of Object.entries(wanted)) {
      if (LISTS.includes(name)) {
        if (value === null) continue;
        if (!value.length) found.append(name, "");
        value.forEach((one) => found.append(name, one));
      } else if (name === "view" || value !== DEFAULTS[name]) found.append(name, value);
    }
    return `#${found}`;
  };
  let state = parse();
  const go = (changes, replace = false) => {
    state = { ...state, ...changes };
    const wanted = fragment(state);
    try {
      history[replace ? "replaceState" : "pushState"](null, "", wanted);
    } catch {
      // a page inside a report has no address of its own: it is drawn all the same
    }
    render();
  };
  const chosen = (what, name) => state[what] === null || state[what].includes(name);
  const metricShown = (task, metric) => (state.metric === "headline" ? headlines.has(key(task, metric)) : metric === state.metric);

  // ---- colours

  const scheme = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const look = () => (scheme.matches && !printing
    ? { dark: true, text: "#ececec", soft: "#b0b0b0", grid: "#3a3a3a", page: "#1f1f1f", band: "rgba(255,255,255,.16)", hover: "#2b2b2b" }
    : { dark: false, text: "#1a1a1a", soft: "#595959", grid: "#dddddd", page: "#fafafa", band: "rgba(0,0,0,.12)", hover: "#ffffff" });
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const luminance = (rgb) => rgb.map((one) => one / 255).map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  // the figures' colour; on dark, towards white until it stands out
  const tint = (colour, alpha = 1) => {
    let rgb = channels(colour);
    while (look().dark && luminance(rgb) < 0.22) rgb = rgb.map((one) => Math.min(255, one + 12));
    return `rgba(${rgb.join(",")},${alpha})`;
  };

  // ---- charts

  const layoutOf = (more) => {
    const now = look();
    const axis = { color: now.soft, gridcolor: now.grid, zeroline: false, linecolor: now.soft, fixedrange: true, ticks: "" };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 12, color: now.text },
      margin: { l: 56, r: 10, t: 8, b: 44 }, showlegend: false, hovermode: "closest", dragmode: false,
      hoverlabel: { bgcolor: now.hover, bordercolor: now.soft, font: { color: now.text, size: 12 }, align: "left" },
    };
    const found = { ...base, ...more };
    for (const name of Object.keys(found)) if (/^[xy]axis/.test(name)) found[name] = { ...axis, ...found[name] };
    return found;
  };
  const drawn = [];
  const chart = (height, described, make) => {
    const plot = element("div", { class: "plot", role: "img", "aria-label": described });
    plot.style.height = `${height}px`;
    drawn.push({ plot, make, height });
    return plot;
  };
  const drawAll = () => {
    for (const { plot, make, height } of drawn) {
      const { traces, layout } = make();
      // a page of paper is laid out after this
      const paper = printing ? { width: plot.closest(".wide") ? 660 : 325 } : {};
      Plotly.newPlot(plot, traces, layoutOf({ ...layout, height, ...paper }), { displayModeBar: false, responsive: !printing, doubleClick: false });
    }
  };
  const nothing = (text) => element("p", { class: "nothing" }, text);
  const pages = (total, size, wanted) => {
    const last = Math.max(1, Math.ceil(total / size));
    const page = Math.min(last, Math.max(1, Number.parseInt(wanted, 10) || 1));
    return { page, last, from: (page - 1) * size, to: page * size };
  };

  // ---- curves

  const HELD = { pattern: ["task", "model"], model: ["task", "pattern"], task: ["model", "pattern"] };
  const styled = (by, names) => new Map(names.map((name, at) => {
    const own = by === "pattern" ? DATA.patterns[name] : null;
    const [colour, symbol] = own ? [own.colour, own.symbol] : DATA.colours[at % DATA.colours.length];
    return [name, { colour, symbol, random: own?.random ?? false }];
  }));
  const panelsOf = () => {
    const found = new Map();
    for (const row of CURVES) {
      if (row.pattern === "dense" || !LISTS.every((what) => chosen(what, row[what])) || !metricShown(row.task, row.metric)) continue;
      const name = key(...HELD[state.by].map((what) => row[what]), row.metric);
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(row);
    }
    const order = (row) => [...HELD[state.by].map((what) => place[what].get(row[what])), Object.keys(DATA.metrics).indexOf(row.metric)];
    const panels = [...found.values()].map((rows) => rows.sort((a, b) => place[state.by].get(a[state.by]) - place[state.by].get(b[state.by])));
    return panels.sort((a, b) => {
      const [one, other] = [order(a[0]), order(b[0])];
      const at = one.findIndex((value, number) => value !== other[number]);
      return at < 0 ? 0 : one[at] - other[at];
    });
  };
  const denseOf = (row) => curveOf.get(key(row.model, row.task, "dense", row.metric));
  const pointsOf = (row) => row.sparsity.map((sparsity, at) => ({
    model: row.model, task: row.task, pattern: row.pattern, metric: row.metric, sparsity, value: row.value[at],
    low: row.low?.[at] ?? null, high: row.high?.[at] ?? null, n_seeds: row.n_seeds[at], note: row.notes?.[at] ?? null,
  }));
  const POINT = columns("model", "task", "pattern", "metric", "sparsity", "value", "low", "high", "n_seeds", "note");
  const KNEE = columns("model", "task", "pattern", "metric", "essential_sparsity", "essential_sparsity_low", "essential_sparsity_high", "bracket_low",
    "bracket_high", "notes", "last_compliant", "kneedle", "hinge", "dense", "epsilon", "metric_at_knee", "n_items", "n_seeds_min", "n_seeds_max", "n_missing", "reason");
  const KNEE_SHOWN = KNEE.slice(0, 10).concat(columns("dense")); // the download has the other readings too
  const pointsOfPanel = (rows) => {
    const dense = new Map(rows.map(denseOf).filter(Boolean).map((row) => [key(row.model, row.task), row]));
    return [...dense.values(), ...rows].flatMap(pointsOf);
  };
  const worded = (knee) => (!knee ? "no knee" : knee.essential_sparsity === null ? knee.said : `essential sparsity ${knee.said}`);
  const titleOf = (row) => ({
    pattern: `${LABELS.model(row.model)} on ${LABELS.task(row.task)}`,
    model: `${LABELS.task(row.task)}, ${LABELS.pattern(row.pattern)}`,
    task: `${LABELS.model(row.model)}, ${LABELS.pattern(row.pattern)}`,
  })[state.by];
  const ranged = (metric, values, shaped, dense) => {
    const unit = (value) => `${number(value)}${DATA.metrics[metric].percent ? " %" : ""}`;
    const [least, most] = [Math.min(...values), Math.max(...values)];
    if (DATA.metrics[metric].log) {
      const cut = dense !== null && most > 10 * dense ? 10 * dense : null;
      const top = (cut ?? most) * 1.07;
      return { range: [Math.log10(least / 1.03), Math.log10(top)], note: cut ? `The vertical axis ends at 10 × dense; the highest value is ${unit(most)}.` : null };
    }
    const [low, high] = shaped.length ? [Math.min(...shaped), Math.max(...shaped)] : [0, 0];
    if (high > low && least < low - (high - low)) {
      const cut = low - 0.35 * (high - low);
      return { range: [cut, Math.max(most, high) + 0.08 * (high - cut)], note: `The vertical axis is cut; the lowest value is ${unit(least)}.` };
    }
    const room = (most - least || Math.abs(most) || 1) * 0.06;
    return { range: [least - room, most + room], note: null };
  };
  // 1, 2, 5 of each decade; round steps on a short axis
  const logTicks = ([from, to]) => {
    const [low, high] = [10 ** from, 10 ** to];
    const decades = Array.from({ length: Math.ceil(to) - Math.floor(from) + 1 }, (_, at) => 10 ** (Math.floor(from) + at));
    const round = decades.flatMap((decade) => [1, 2, 5].map((digit) => digit * decade)).filter((tick) => tick >= low && tick <= high);
    if (round.length >= 3) return round.length <= 8 ? round : round.filter((tick) => decades.includes(tick));
    const rough = (high - low) / 4;
    const step = [1, 2, 5, 10].map((digit) => digit * 10 ** Math.floor(Math.log10(rough))).find((one) => one >= rough);
    return Array.from({ length: 6 }, (_, at) => (Math.ceil(low / step) + at) * step).filter((tick) => tick <= high);
  };
  const curvePanel = (rows) => {
    const { metric } = rows[0];
    const times = scale(metric);
    const by = state.by;
    const styles = by === "pattern" ? styled(by, KNOWN.pattern) : styled(by, rows.map((row) => row[by]));
    const dense = by === "pattern" ? denseOf(rows[0]) : null;
    const all = pointsOfPanel(rows).map((point) => times * point.value);
    const shaped = rows.filter((row) => !DATA.patterns[row.pattern].random).flatMap((row) => [...row.value, ...(denseOf(row)?.value ?? [])]).map((value) => times * value);
    const { range, note } = ranged(metric, all, shaped, dense ? times * dense.value[0] : null);
    const last = 100 * Math.max(0.2, ...rows.flatMap((row) => row.sparsity));
    const knees = rows.map((row) => kneeOf.get(key(row.model, row.task, row.pattern, row.metric)));
    const name = (row) => LABELS[by](row[by]);
    const strip = 15 * rows.length + 6;
    const height = 300 + strip;
    const make = () => {
      const traces = [];
      rows.forEach((row, at) => {
        const { colour, symbol } = styles.get(row[by]);
        const of = denseOf(row);
        const points = [...(of && row.sparsity.length > 1 ? pointsOf(of) : []), ...pointsOf(row)];
        const x = points.map((point) => 100 * point.sparsity);
        if (points.some((point) => point.low !== null)) {
          const [low, high] = ["low", "high"].map((end) => points.map((point) => times * (point[end] ?? point.value)));
          traces.push({ x: [...x, ...x.slice().reverse()], y: [...high, ...low.reverse()], fill: "toself", fillcolor: tint(colour, 0.15), line: { width: 0 }, mode: "lines", hoverinfo: "skip" });
        }
        traces.push({
          x, y: points.map((point) => times * point.value), mode: points.length > 1 ? "lines+markers" : "markers", name: escaped(row[by]), meta: "curve", hoverinfo: "text",
          line: { color: tint(colour), width: 1.8 }, marker: { color: tint(colour), symbol, size: 7, line: { width: symbol.endsWith("open") ? 2 : 0 } },
          hovertext: points.map((point) => lines(name(row), `sparsity ${percent(point.sparsity)}${point.sparsity ? "" : " (dense)"}`, `${LABELS.metric(metric)} ${inUnit(metric, point.value)}`,
            point.low === null ? count(point.n_seeds, "seed") : `${inUnit(metric, point.low)} to ${inUnit(metric, point.high)} over ${count(point.n_seeds, "seed")}`, point.note)),
        });
      });
      rows.forEach((row, at) => {
        const knee = knees[at];
        if (!knee) return;
        const colour = tint(styles.get(row[by]).colour);
        const said = lines(name(row), worded(knee), knee.notes);
        const foot = { yaxis: "y2", mode: "lines", hoverinfo: "text", hovertext: said };
        const end = (value) => (value === null ? last : 100 * value);
        if (knee.bracket_low !== null && knee.essential_sparsity !== null)
          traces.push({ ...foot, meta: "bracket", x: [100 * knee.bracket_low, end(knee.bracket_high)], y: [-at, -at], opacity: 0.4, line: { color: colour, width: 9 } });
        if (knee.essential_sparsity_low !== null)
          traces.push({ ...foot, meta: "interval", x: [100 * knee.essential_sparsity_low, end(knee.essential_sparsity_high)], y: [-at, -at], line: { color: colour, width: 3 } });
        if (knee.essential_sparsity === null || knee.coarse) return;
        traces.push({ ...foot, meta: "tick", x: [100 * knee.essential_sparsity], y: [-at], mode: "markers", marker: { color: colour, symbol: "line-ns-open", size: 9, line: { width: 2 } } });
        if (knee.metric_at_knee !== null)
          traces.push({ x: [100 * knee.essential_sparsity], y: [times * knee.metric_at_knee], mode: "markers", meta: "knee", hoverinfo: "text", hovertext: said, marker: { color: look().page, symbol: "diamond", size: 10, line: { color: colour, width: 2 } } });
      });
      const knee = knees.find((one) => one?.limit !== null && one?.limit !== undefined);
      const across = { xref: "paper", x0: 0, x1: 1, layer: "below" };
      const level = dense ? times * dense.value[0] : null;
      const shapes = dense ? [{ ...across, type: "line", y0: level, y1: level, line: { color: look().text, width: 1, dash: "dash" } }] : [];
      if (dense && knee) shapes.push({ ...across, type: "rect", y0: level, y1: times * knee.limit, fillcolor: look().band, line: { width: 0 } });
      const kind = DATA.metrics[metric].log ? " (log axis)" : DATA.metrics[metric].percent ? " (%)" : "";
      return {
        traces,
        layout: {
          xaxis: { range: [-2, last + 2], title: { text: "Sparsity (% of prunable weights pruned)", font: { size: 11.5 } }, anchor: "y2", showgrid: false },
          yaxis: { domain: [strip / (height - 52) + 0.02, 1], range, type: DATA.metrics[metric].log ? "log" : "linear", title: { text: escaped(LABELS.metric(metric) + kind), standoff: 6 }, nticks: 6, automargin: true, ...(DATA.metrics[metric].log ? { tickmode: "array", tickvals: logTicks(range), ticktext: logTicks(range).map((tick) => String(Number(tick.toPrecision(6)))) } : {}) },
          yaxis2: { domain: [0, strip / (height - 52)], range: [0.6 - rows.length, 0.6], showticklabels: false, showgrid: false },
          shapes,
        },
      };
    };
    const told = rows.map((row, at) => `${name(row)}: ${worded(knees[at])}`);
    const described = `${LABELS.metric(metric)} against sparsity, ${titleOf(rows[0])}. ${told.join(". ")}. The rows are in the table below.`;
    const legend = element("ul", { class: "legend" }, ...rows.map((row, at) => {
      const { colour, symbol } = styles.get(row[by]);
      return element("li", {}, swatch(tint(colour), symbol), element("span", {}, `${name(row)}: ${knees[at]?.said ?? "no knee"}`));
    }));
    const points = pointsOfPanel(rows);
    return element("section", { class: "panel" },
      element("h3", {}, titleOf(rows[0])),
      element("p", { class: "soft" }, LABELS.metric(metric) + (dense ? `; dense ${inUnit(metric, dense.value[0])}` : "")),
      chart(height, described, make), element("p", { class: "soft" }, "Essential sparsity, in % of the prunable weights:"), legend, note && element("p", { class: "note" }, note),
      folded(`Rows of this chart (${points.length})`, () => table(`${LABELS.metric(metric)}, ${titleOf(rows[0])}`, POINT, points)));
  };
  const curves = {
    draw(area) {
      const panels = panelsOf();
      const { page, last, from, to } = pages(panels.length, CHARTS, state.page);
      const shown = panels.slice(from, to);
      const rows = shown.flat();
      paged(page, last);
      const seen = new Map(shown.flatMap(pointsOfPanel).map((point) => [key(point.model, point.task, point.pattern, point.metric, point.sparsity), point]));
      const knees = rows.map((row) => kneeOf.get(key(row.model, row.task, row.pattern, row.metric))).filter(Boolean);
      downloads([["curves", POINT, [...seen.values()]], ["knees", KNEE, knees]]);
      if (!panels.length) {
        area.append(nothing(CURVES.length ? "No curve is of what is chosen above." : "No run of this study has a defined metric: there is no curve. The data report says what is missing."));
        return "No curve is drawn.";
      }
      area.append(
        element("p", { class: "soft" }, "Lines are means over seeds, shaded where several were run: their range. Dashed: the dense model, grey: its tolerance. Diamonds and ticks mark the essential sparsity; at the foot, " +
          "wide and pale: the two levels that hold it, thin: its 95 % interval over items and seeds. The value of a point shows when it is pointed at, and stands in the table under each chart."),
        element("div", { class: "panels" }, ...shown.map(curvePanel)),
        folded(`Essential sparsities of what is drawn (${knees.length})`, () => table("Essential sparsities, from table knees; the download has its other readings", KNEE_SHOWN, knees), true));
      const all = panels.reduce((sum, one) => sum + one.length, 0);
      return `${count(rows.length, "curve")} in ${count(shown.length, "chart")}${last > 1 ? ` are drawn, page ${page} of ${last}; ${all.toLocaleString("en")} are chosen` : " are drawn"}.`;
    },
  };

  // ---- pairs

  const DIFFERENCE = columns("model", "task", "metric", "pattern_a", "pattern_b", "sparsity_from", "sparsity_to", "difference", "low", "high", "n_levels", "n_seeds", "n_items");
  const COMPARISON = columns("task", "metric", "between", "model_a", "pattern_a", "model_b", "pattern_b", "essential_sparsity_a", "essential_sparsity_b", "difference", "low", "high", "larger", "paired");
  const differencePanel = (rows) => {
    const { model, task, metric } = rows[0];
    const times = scale(metric);
    const unit = DATA.metrics[metric]?.percent ? "points" : DATA.metrics[metric]?.log ? "of its logarithm" : "";
    const shown = (value) => number(times * value, 3);
    const pairs = [...new Set(rows.map((row) => key(row.pattern_a, row.pattern_b)))].map((one) => JSON.parse(one));
    const named = ([a, b]) => `${LABELS.pattern(a)} less ${LABELS.pattern(b)}`;
    const make = () => {
      const traces = [];
      pairs.forEach(([a, b], at) => {
        const { colour, symbol } = DATA.patterns[a];
        const own = rows.filter((row) => row.pattern_a === a && row.pattern_b === b);
        const said = (row) => lines(named([a, b]), row.n_levels > 1 ? `mean over ${percent(row.sparsity_from)} to ${percent(row.sparsity_to)}` : `sparsity ${percent(row.sparsity_from)}`,
          `difference ${shown(row.difference)} ${unit}`, `95 % interval ${interval(row.low, row.high, shown)}`, `${count(row.n_seeds, "seed")}, ${count(row.n_items, "item")}`);
        const levels = own.filter((row) => row.sparsity_from === row.sparsity_to);
        const shift = pairs.length > 1 ? 0.8 * (at - (pairs.length - 1) / 2) : 0;
        traces.push({
          x: levels.map((row) => 100 * row.sparsity_from + shift), y: levels.map((row) => times * row.difference), mode: "lines+markers", meta: "difference", hoverinfo: "text", hovertext: levels.map(said),
          line: { color: tint(colour, 0.5), width: 1.2 }, marker: { color: tint(colour), symbol, size: 7, line: { width: symbol.endsWith("open") ? 2 : 0 } },
          error_y: { type: "data", symmetric: false, array: levels.map((row) => times * ((row.high ?? row.difference) - row.difference)), arrayminus: levels.map((row) => times * (row.difference - (row.low ?? row.difference))), color: tint(colour), thickness: 1.4, width: 3 },
        });
        for (const row of own.filter((one) => one.sparsity_from !== one.sparsity_to))
          traces.push({ x: [100 * row.sparsity_from, 100 * row.sparsity_to], y: [times * row.difference, times * row.difference], mode: "lines", meta: "range", opacity: 0.45, line: { color: tint(colour), width: 7 }, hoverinfo: "text", hovertext: said(row) });
      });
      const last = 100 * Math.max(0.2, ...rows.map((row) => row.sparsity_to));
      return {
        traces,
        layout: {
          xaxis: { range: [-2, last + 3], title: { text: "Sparsity (% of prunable weights pruned)", font: { size: 11.5 } }, showgrid: false },
          yaxis: { title: { text: escaped(`Difference${unit ? ` (${unit})` : ""}`), standoff: 6 }, nticks: 6, automargin: true },
          shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: look().text, width: 1, dash: "dash" }, layer: "below" }],
        },
      };
    };
    const title = `${LABELS.model(model)} on ${LABELS.task(task)}`;
    const ranges = rows.filter((row) => row.n_levels > 1);
    const told = ranges.map((row) => `${named([row.pattern_a, row.pattern_b])}, ${percent(row.sparsity_from)} to ${percent(row.sparsity_to)}: ${shown(row.difference)} (${interval(row.low, row.high, shown)})`);
    return element("section", { class: "panel" }, element("h3", {}, title), element("p", { class: "soft" }, `${LABELS.metric(metric)}, paired over items and seeds`),
      chart(320, `Paired difference of ${LABELS.metric(metric)} against sparsity, ${title}: ${pairs.map(named).join(", ")}. ${told.join(". ")}. The rows are in the table below.`, make),
      element("ul", { class: "legend" }, ...pairs.map((pair) => element("li", {}, swatch(tint(DATA.patterns[pair[0]].colour), DATA.patterns[pair[0]].symbol), element("span", {}, named(pair))))),
      folded(`Rows of this chart (${rows.length})`, () => table(`Paired differences of ${LABELS.metric(metric)}, ${title}`, DIFFERENCE, rows)));
  };
  const comparedName = (row) => (row.between === "pattern"
    ? `${LABELS.model(row.model_a)} on ${LABELS.task(row.task)}: ${LABELS.pattern(row.pattern_a)} less ${LABELS.pattern(row.pattern_b)}`
    : `${LABELS.pattern(row.pattern_a)} on ${LABELS.task(row.task)}: ${LABELS.model(row.model_a)} less ${LABELS.model(row.model_b)}`);
  const comparedIds = (row) => (row.between === "pattern"
    ? `${row.model_a}, ${row.task}: ${row.pattern_a} less ${row.pattern_b}`
    : `${row.pattern_a}, ${row.task}: ${row.model_a} less ${row.model_b}`);
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const forest = (rows) => {
    const points = (value) => number(100 * value, 3);
    const make = () => {
      const narrow = document.documentElement.clientWidth < 640;
      const known = rows.flatMap((row) => [row.difference, row.low, row.high]).filter((value) => value !== null).map((value) => 100 * value);
      const reach = 1.06 * Math.max(1, ...known.map(Math.abs));
      const traces = [];
      rows.forEach((row, at) => {
        if (row.low === null && row.high === null && row.difference === null) return;
        const said = lines(comparedName(row), LABELS.metric(row.metric), `difference ${row.difference === null ? "unknown" : `${points(row.difference)} points of sparsity`}`, `95 % interval ${interval(row.low, row.high, points)}`,
          row.larger ? `${row.larger === "a" ? "the first" : "the second"} drops later` : "not told apart", row.paired ? "paired over items" : "not paired");
        const colour = row.larger ? tint("#0072B2") : look().soft;
        const ends = [row.low === null ? -reach : 100 * row.low, row.high === null ? reach : 100 * row.high];
        if (row.low !== null || row.high !== null)
          traces.push({ x: ends, y: [-at, -at], mode: "lines", meta: "interval", line: { color: colour, width: 2.5, dash: row.low === null || row.high === null ? "dot" : "solid" }, hoverinfo: "text", hovertext: said });
        if (row.difference !== null)
          traces.push({ x: [100 * row.difference], y: [-at], mode: "markers", meta: "difference", marker: { color: colour, size: 8 }, hoverinfo: "text", hovertext: said });
      });
      return {
        traces,
        layout: {
          margin: { l: narrow ? 8 : 60, r: 12, t: 8, b: 44 },
          xaxis: { range: [-reach, reach], title: { text: narrow ? "Difference (points of sparsity)" : "Difference of essential sparsities (points of sparsity), right: the first drops later" } },
          yaxis: {
            range: [0.6 - rows.length, 0.6], automargin: !narrow, showgrid: false, tickmode: "array", tickvals: rows.map((_, at) => -at),
            ticktext: rows.map((row, at) => (narrow ? String(at + 1) : escaped(`${at + 1}. ${short(comparedIds(row), 70)}`))), ticklabelposition: narrow ? "inside" : "outside",
          },
          shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { color: look().text, width: 1, dash: "dash" }, layer: "below" }],
        },
      };
    };
    const told = rows.filter((row) => row.larger).length;
    return element("section", { class: "panel wide" }, element("h3", {}, "Which curve drops later"),
      element("p", { class: "soft" }, "Difference of two essential sparsities with its 95 % interval, both curves' gaps between levels in it. Dotted: the interval ends beyond the levels. Coloured: told apart."),
      chart(70 + 24 * rows.length, `Differences of essential sparsities of ${count(rows.length, "pair")}; ${told} are told apart. The rows are in the table below.`, make),
      element("ol", { class: "soft key" }, ...rows.map((row) => element("li", {}, `${comparedName(row)} (${LABELS.metric(row.metric)}): ${row.difference === null ? "no number" : `${points(row.difference)} points`}, ${row.low === null && row.high === null ? "no interval" : interval(row.low, row.high, points)}`))),
      folded(`Rows of this chart (${rows.length})`, () => table("Comparisons, from table comparisons", COMPARISON, rows)));
  };
  const pairs = {
    draw(area) {
      const wanted = (row, models, patterns) => models.every((one) => chosen("model", one)) && patterns.every((one) => chosen("pattern", one)) && chosen("task", row.task) && metricShown(row.task, row.metric);
      const rows = DIFFERENT.filter((row) => wanted(row, [row.model], [row.pattern_a, row.pattern_b]));
      const found = new Map();
      for (const row of rows) {
        const name = key(row.model, row.task, row.metric);
        if (!found.has(name)) found.set(name, []);
        found.get(name).push(row);
      }
      const panels = [...found.values()];
      const { page, last, from, to } = pages(panels.length, CHARTS, state.page);
      const compared = COMPARED.filter((row) => (state.between === "all" || row.between === state.between) && wanted(row, [row.model_a, row.model_b], [row.pattern_a, row.pattern_b]));
      const list = pages(compared.length, PAIRS, state.pairs);
      const listed = compared.slice(list.from, list.to);
      paged(page, last, list);
      const shown = panels.slice(from, to);
      downloads([["differences", DIFFERENCE, shown.flat()], ["comparisons", COMPARISON, listed]]);
      area.append(element("h2", {}, "At each sparsity"));
      if (shown.length) {
        area.append(element("p", { class: "soft" }, "How much better the first pattern is than the second (above 0: the first is better), with 95 % intervals; wide and pale: the mean over a range of levels."), element("div", { class: "panels" }, ...shown.map(differencePanel)));
      } else {
        area.append(nothing(DIFFERENT.length ? "No paired difference is of what is chosen above." : "This study has no paired differences: they take lottery tickets, or a pattern beside one that it is compared with (random beside global, Wanda beside layerwise, …)."));
      }
      area.append(element("h2", {}, "Essential sparsities"));
      if (listed.length) area.append(element("div", { class: "panels" }, forest(listed)));
      else area.append(nothing(COMPARED.length ? "No pair of curves is of what is chosen above." : "This study compares no two curves: it takes two patterns of one model and task, or two models."));
      const more = list.last > 1 ? `, page ${list.page} of ${list.last}` : "";
      return `Paired differences in ${count(shown.length, "chart")}${last > 1 ? `, page ${page} of ${last}` : ""}; ${count(listed.length, "pair")} of ${count(compared.length, "pair")} of essential sparsities${more}.`;
    },
  };

  // ---- layers

  const LAYER = columns("model", "pattern", "sparsity", "role", "sublayer", "layer", "n", "pruned", "rate");
  const layerChoice = () => {
    const [model, pattern, sparsity] = state.layers ? state.layers.split("|") : [];
    const models = Object.keys(DATA.models).filter((name) => name in DATA.layers.models);
    const one = models.includes(model) ? model : models[0];
    const patterns = [...new Set(LEVELS.filter((row) => row.model === one).map((row) => row.pattern))].sort((a, b) => (place.pattern.get(a) ?? 99) - (place.pattern.get(b) ?? 99));
    const other = patterns.includes(pattern) ? pattern : patterns[0];
    const levels = LEVELS.filter((row) => row.model === one && row.pattern === other).sort((a, b) => a.sparsity - b.sparsity);
    const near = Number.isFinite(Number.parseFloat(sparsity)) ? Number.parseFloat(sparsity) : 0.5;
    const at = levels.reduce((best, row, number) => (Math.abs(row.sparsity - near) < Math.abs(levels[best].sparsity - near) ? number : best), 0);
    return { models, model: one, patterns, pattern: other, levels, at };
  };
  const layers = {
    draw(area) {
      const choice = layerChoice();
      if (!choice.levels.length) {
        downloads([]);
        area.append(nothing("The weights of no model of this study were measured: there are no layers to show."));
        return "No heat map is drawn.";
      }
      const level = choice.levels[choice.at];
      const { roles, sublayers, layers: blocks, n } = DATA.layers.models[choice.model];
      const total = level.pruned.reduce((sum, value) => sum + (value ?? 0), 0);
      const rows = roles.flatMap((role, down) => blocks.map((layer, across) => {
        const at = down * blocks.length + across;
        return { model: choice.model, pattern: choice.pattern, sparsity: level.sparsity, role, sublayer: sublayers[down], layer, n: n[at], pruned: level.pruned[at], rate: n[at] ? Number((level.pruned[at] / n[at]).toPrecision(6)) : null };
      })).filter((row) => row.n !== null);
      downloads([["layers", LAYER, rows]]);
      const shown = (at) => (n[at] === null || level.pruned[at] === null ? null : state.share === "rate" ? (100 * level.pruned[at]) / n[at] : (100 * level.pruned[at]) / Math.max(1, total));
      const grid = roles.map((_, down) => blocks.map((__, across) => shown(down * blocks.length + across)));
      const told = state.share === "rate" ? "Pruned share of each matrix" : "Share of all pruned weights";
      const make = () => {
        const wide = area.clientWidth / blocks.length > 62;
        return {
          traces: [{
            type: "heatmap", z: grid, x: blocks.map((_, at) => at), y: roles.map((_, at) => -at), zmin: 0, colorscale: state.share === "rate" ? "Viridis" : "Cividis", xgap: 1, ygap: 1, meta: "layers", hoverinfo: "text", hoverongaps: false,
            zmax: state.share === "rate" ? 100 : Math.max(1e-9, ...grid.flat().filter((value) => value !== null)), colorbar: { thickness: 12, ticksuffix: " %", outlinewidth: 0, tickfont: { color: look().soft } },
            texttemplate: wide ? "%{z:.1f}" : undefined,
            hovertext: grid.map((row, down) => row.map((value, across) => lines(`${roles[down]}, block ${blocks[across]}`, value === null ? "no such matrix" : `${number(value)} %`, `${(level.pruned[down * blocks.length + across] ?? 0).toLocaleString("en")} of ${(n[down * blocks.length + across] ?? 0).toLocaleString("en")} pruned`))),
          }],
          layout: {
            margin: { l: 8, r: 8, t: 8, b: 44 },
            xaxis: { title: { text: "Block" }, tickmode: "array", tickvals: blocks.map((_, at) => at).filter((at) => at % Math.ceil(blocks.length / Math.max(4, area.clientWidth / 45)) === 0), ticktext: blocks.filter((_, at) => at % Math.ceil(blocks.length / Math.max(4, area.clientWidth / 45)) === 0).map(String), showgrid: false },
            yaxis: { tickmode: "array", tickvals: roles.map((_, at) => -at), ticktext: roles.map((role) => escaped(short(role, area.clientWidth < 500 ? 18 : 44))), automargin: true, showgrid: false },
          },
        };
      };
      const sums = [...new Set(sublayers)].map((name) => {
        const own = rows.filter((row) => row.sublayer === name);
        const [all, gone] = ["n", "pruned"].map((what) => own.reduce((sum, row) => sum + row[what], 0));
        return `${name === "mlp" ? "MLP" : "Attention"}: ${number((100 * gone) / all, 3)} % pruned, ${number((100 * gone) / Math.max(1, total), 3)} % of all pruned`;
      });
      const title = `${LABELS.model(choice.model)}, ${LABELS.pattern(choice.pattern)}, ${percent(level.sparsity)} of prunable weights pruned`;
      area.append(element("div", { class: "panels" }, element("section", { class: "panel wide" }, element("h3", {}, title), element("p", { class: "soft" }, `${told}, by kind of matrix and block. ${sums.join("; ")}.`),
        chart(90 + 30 * roles.length, `${told}, ${title}: ${count(roles.length, "kind")} of matrices by ${count(blocks.length, "block")}. ${sums.join(". ")}. The rows are in the table below.`, make),
        folded(`Rows of this chart (${rows.length})`, () => table(`${told}, ${title}`, LAYER, rows)))));
      return `${told}: ${title}.`;
    },
  };

  // ---- items

  const itemKey = (curve) => [curve.model, curve.task, curve.pattern].join("|");
  const items = {
    draw(area) {
      if (!DATA.items.length) {
        downloads([]);
        area.append(nothing("No curve of this study has items that are right or wrong."));
        area.append(...DATA.without_items.slice(0, 20).map((text) => element("p", { class: "soft" }, text)));
        return "No items are drawn.";
      }
      const curve = DATA.items.find((one) => itemKey(one) === state.items) ?? DATA.items[0];
      const pruned = curve.levels.slice(1);
      const first = curve.marks.map((marks) => pruned[[...marks.slice(1)].indexOf("0")]);
      const MARKS = [...columns("model", "task", "pattern", "seed", "item", "first_wrong"), ...curve.levels.map((level, at) => ({ name: `right_at_${level}`, of: (row) => row.marks[at] }))];
      const rows = curve.items.map((item, at) => ({ model: curve.model, task: curve.task, pattern: curve.pattern, seed: curve.seed, item, first_wrong: first[at], marks: [...curve.marks[at]].map((mark) => (mark === "-" ? null : Number(mark))) }));
      const COUNTS = columns("sparsity", "turn_wrong_first");
      const counts = pruned.map((sparsity, at) => ({ sparsity, turn_wrong_first: curve.first[at] }));
      downloads([["items", MARKS, rows], ["items-by-level", COUNTS, counts]]);
      const title = `${LABELS.model(curve.model)} on ${LABELS.task(curve.task)}, ${LABELS.pattern(curve.pattern)}`;
      const ticks = pruned.map((level) => `${Number((100 * level).toFixed(1))}`);
      const bars = () => ({
        traces: [{ type: "bar", x: pruned.map((_, at) => at), y: curve.first, meta: "first", marker: { color: tint(WRONG) }, hoverinfo: "text", hovertext: counts.map((row) => lines(`sparsity ${percent(row.sparsity)}`, `${count(row.turn_wrong_first, "item turns", "items turn")} wrong first`)) }],
        layout: { xaxis: { title: { text: "Sparsity (% of prunable weights pruned)", font: { size: 11.5 } }, tickmode: "array", tickvals: pruned.map((_, at) => at), ticktext: ticks, showgrid: false }, yaxis: { title: { text: "Items" }, rangemode: "tozero", automargin: true } },
      });
      const marks = () => ({
        traces: [{
          type: "heatmap", meta: "marks", z: rows.map((row) => row.marks), x: curve.levels.map((_, at) => at), y: rows.map((_, at) => -at), zmin: 0, zmax: 1, showscale: false, xgap: 2, ygap: 2, hoverinfo: "text", hoverongaps: false,
          colorscale: [[0, tint(WRONG)], [1, look().dark ? "#2f5f7d" : "#cfe8f7"]],
          hovertext: rows.map((row) => row.marks.map((mark, at) => lines(row.item, `sparsity ${percent(curve.levels[at])}${at ? "" : " (dense)"}`, mark === null ? "not evaluated" : mark ? "right" : "wrong"))),
        }],
        layout: {
          margin: { l: 8, r: 8, t: 8, b: 44 },
          xaxis: { title: { text: "Sparsity (% of prunable weights pruned)", font: { size: 11.5 } }, tickmode: "array", tickvals: curve.levels.map((_, at) => at), ticktext: ["dense", ...ticks], showgrid: false },
          yaxis: { tickmode: "array", tickvals: rows.map((_, at) => -at), ticktext: rows.map((row) => escaped(short(row.item, 22))), automargin: true, showgrid: false, tickfont: { size: 10 } },
        },
      });
      const never = curve.right - curve.turned;
      const summed = `Of ${count(curve.n_items, "item")}, ${curve.right.toLocaleString("en")} are right when dense (seed ${curve.seed}); ${curve.turned.toLocaleString("en")} of these are wrong at some level, ${never.toLocaleString("en")} at none`;
      const left = curve.turned - rows.length;
      area.append(element("p", { class: "soft" }, `An item turns wrong first at the lowest sparsity at which it is wrong; it can be right again later.`),
        element("div", { class: "panels loose" },
          element("section", { class: "panel" }, element("h3", {}, "At which sparsity items turn wrong first"), element("p", { class: "soft" }, title),
            chart(300, `How many items turn wrong first at each sparsity, ${title}: ${counts.map((row) => `${percent(row.sparsity)}: ${row.turn_wrong_first}`).join(", ")}.`, bars),
            folded(`Rows of this chart (${counts.length})`, () => table(`Items that turn wrong first, ${title}`, COUNTS, counts))),
          rows.length
            ? element("section", { class: "panel" }, element("h3", {}, "The items that turn wrong first"),
              element("p", { class: "soft" }, `${count(rows.length, "item")}, the first above; those that stay wrong at more levels come first.${left ? ` ${count(left, "more item is", "more items are")} not listed on this page.` : ""}`),
              chart(70 + 15 * rows.length, `Right or wrong at each sparsity, ${count(rows.length, "item")} of ${title}. The first: ${rows.slice(0, 5).map((row) => `${row.item} at ${percent(row.first_wrong)}`).join(", ")}. The rows are in the table below.`, marks),
              element("ul", { class: "legend" }, element("li", {}, swatch(tint(WRONG), "square"), element("span", {}, "wrong")), element("li", {}, swatch(look().dark ? "#2f5f7d" : "#cfe8f7", "square"), element("span", {}, "right"))),
              folded(`Rows of this chart (${rows.length})`, () => table(`The items that turn wrong first, ${title}`, MARKS, rows)))
            : nothing(curve.turned ? "The items of this curve are not listed on this page, which has bounds." : "No item turns wrong at any level.")));
      if (DATA.without_items.length)
        area.append(folded(`Curves without such items (${DATA.without_items.length})`, () => element("ul", { class: "soft" }, ...DATA.without_items.slice(0, ROWS).map((text) => element("li", {}, text)))));
      return `${title}: ${summed}.`;
    },
  };

  // ---- data

  const data = {
    draw() {
      const found = [...document.querySelectorAll("#data table")].map((one) => {
        const names = [...one.tHead.rows[0].cells].map((head) => head.textContent);
        return [one.dataset.name, names.map((name, at) => ({ name, of: (row) => row[at] })), [...one.tBodies[0].rows].map((row) => [...row.cells].map((own) => own.dataset.value ?? own.textContent))];
      });
      downloads(found);
      return "What was evaluated, as tables.";
    },
  };

  // ---- controls

  const area = document.getElementById("view");
  const form = document.getElementById("filters");
  const bars = document.getElementById("bars");
  const sync = [];
  const offered = (options, value, select) => {
    const wanted = options.map(([name]) => name).join("\n");
    if (select.dataset.options !== wanted) {
      select.replaceChildren(...options.map(([name, label]) => element("option", { value: name }, label)));
      select.dataset.options = wanted;
    }
    select.value = value;
  };
  const selected = (label, options, value, change) => {
    const select = element("select", { onchange: () => change(select.value) });
    sync.push(() => offered(options(), value(), select));
    return element("label", {}, label, select);
  };
  const choices = (what, title) => {
    const boxes = KNOWN[what].map((name) => {
      const box = element("input", { type: "checkbox", value: name, onchange: () => {
        const now = KNOWN[what].filter((one) => (one === name ? box.checked : chosen(what, one)));
        go({ [what]: now.length === KNOWN[what].length ? null : now, page: "1", pairs: "1" });
      } });
      sync.push(() => { box.checked = chosen(what, name); });
      const mark = element("span", { "aria-hidden": "true" });
      if (what === "pattern") sync.push(() => mark.replaceChildren(swatch(tint(DATA.patterns[name].colour), DATA.patterns[name].symbol)));
      const label = LABELS[what](name);
      return element("label", {}, box, what === "pattern" ? mark : null, element("span", {}, label === name ? name : `${label} (${name})`));
    });
    const set = (value) => go({ [what]: value, page: "1", pairs: "1" });
    return element("fieldset", {}, element("legend", {}, title), element("div", { class: "choices" }, ...boxes),
      element("button", { type: "button", "aria-label": `all, ${title}`, onclick: () => set(null) }, "all"), element("button", { type: "button", "aria-label": `none, ${title}`, onclick: () => set([]) }, "none"));
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(choices("model", "Models"), choices("task", "Tasks"), choices("pattern", "Patterns"));
  const metricChoice = selected("Metric", () => [["headline", "each task's headline"], ...Object.keys(DATA.metrics).map((name) => [name, LABELS.metric(name)])], () => state.metric, (metric) => go({ metric, page: "1", pairs: "1" }));
  const pagers = {};
  const pager = (name, what) => {
    const move = (by) => go({ [name]: String(pagers[name].page + by) });
    const back = element("button", { type: "button", onclick: () => move(-1) }, `Previous ${what}`);
    const on = element("button", { type: "button", onclick: () => move(1) }, `Next ${what}`);
    const told = element("span", { class: "soft" });
    const whole = element("div", { class: "bar" }, back, on, told);
    const show = (page, last) => {
      pagers[name].page = page;
      whole.hidden = last === 1;
      back.disabled = page === 1;
      on.disabled = page === last;
      told.textContent = `page ${page} of ${last}`;
    };
    pagers[name] = { page: 1, show };
    return whole;
  };
  const layersBar = (() => {
    const set = (changes, replace) => {
      const now = layerChoice();
      const wanted = { model: now.model, pattern: now.pattern, sparsity: now.levels[now.at]?.sparsity, ...changes };
      go({ layers: [wanted.model, wanted.pattern, wanted.sparsity].join("|") }, replace);
    };
    const range = element("input", { type: "range", min: "0", step: "1", id: "level" });
    const told = element("span"); // an output would take the label
    range.addEventListener("input", () => set({ sparsity: layerChoice().levels[Number(range.value)].sparsity }, true));
    sync.push(() => {
      const now = layerChoice();
      range.max = String(Math.max(0, now.levels.length - 1));
      range.value = String(now.at);
      const text = now.levels.length ? percent(now.levels[now.at].sparsity) : "–";
      told.textContent = text;
      range.setAttribute("aria-valuetext", text);
    });
    return element("div", { class: "bar" },
      selected("Model", () => layerChoice().models.map((name) => [name, LABELS.model(name)]), () => layerChoice().model, (model) => set({ model })),
      selected("Pattern", () => layerChoice().patterns.map((name) => [name, LABELS.pattern(name)]), () => layerChoice().pattern, (pattern) => set({ pattern })),
      element("label", {}, element("span", {}, "Sparsity ", told), range),
      selected("Shown", () => [["rate", "pruned share of each matrix"], ["share", "share of all pruned weights"]], () => state.share, (share) => go({ share })));
  })();
  const saved = element("div", { class: "bar" });
  const both = element("div", { class: "bar" }, metricChoice);
  const ownBars = {
    curves: element("div", { class: "bar" }, selected("Lines of a chart are", () => [["pattern", "patterns"], ["model", "models"], ["task", "tasks"]], () => state.by, (by) => go({ by, page: "1" }))),
    pairs: element("div", { class: "bar" }, selected("Pairs of essential sparsities", () => [["all", "of patterns and of models"], ["pattern", "of patterns"], ["model", "of models"]], () => state.between, (between) => go({ between, pairs: "1" }))),
    layers: layersBar,
    items: element("div", { class: "bar" }, selected("Curve", () => DATA.items.map((one) => [itemKey(one), `${LABELS.task(one.task)}: ${LABELS.model(one.model)}, ${LABELS.pattern(one.pattern)}`]), () => (DATA.items.find((one) => itemKey(one) === state.items) ?? DATA.items[0] ?? {}) && itemKey(DATA.items.find((one) => itemKey(one) === state.items) ?? DATA.items[0] ?? {}), (chosenCurve) => go({ items: chosenCurve }))),
    data: element("div", {}),
  };
  both.append(ownBars.curves, ownBars.pairs);
  const chartPager = pager("page", "charts");
  const pairPager = pager("pairs", "pairs");
  bars.append(both, layersBar, ownBars.items, chartPager, pairPager, saved);
  const paged = (page, last, list = { page: 1, last: 1 }) => {
    pagers.page.show(page, last);
    pagers.pairs.show(list.page, list.last);
  };
  // kept where they are, so that the one with the focus stays
  const downloads = (found) => {
    const names = found.filter(([, , rows]) => rows.length);
    while (saved.childElementCount > names.length) saved.lastElementChild.remove();
    while (saved.childElementCount < names.length) saved.append(element("button", { type: "button", onclick: (event) => event.currentTarget.act() }));
    names.forEach(([name, own, rows], at) => {
      const button = saved.children[at];
      button.textContent = `Download ${name}.csv (${count(rows.length, "row")})`;
      button.act = () => save(name, csv(own, rows));
    });
    saved.hidden = !names.length;
  };

  // ---- all of it

  const DRAWN = { curves, pairs, layers, items, data };
  const render = () => {
    drawn.splice(0).forEach(({ plot }) => Plotly.purge(plot));
    area.replaceChildren();
    const filtered = ["curves", "pairs"].includes(state.view);
    form.hidden = both.hidden = !filtered;
    for (const [name, bar] of Object.entries(ownBars)) bar.hidden = name !== state.view;
    if (!filtered) paged(1, 1);
    document.getElementById("data").hidden = state.view !== "data";
    for (const link of document.querySelectorAll("nav a")) {
      link.href = fragment({ ...state, view: link.dataset.view });
      if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const link = document.getElementById("link");
    link.href = fragment(state);
    document.getElementById("link-line").hidden = false;
    sync.forEach((one) => one());
    document.getElementById("said").textContent = DRAWN[state.view].draw(area);
    drawAll();
  };
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ view: link.dataset.view, page: "1", pairs: "1" });
  });
  document.getElementById("skip").addEventListener("click", () => {
    const said = document.getElementById("said");
    said.tabIndex = -1;
    said.focus();
  });
  const restored = () => { state = parse(); render(); };
  addEventListener("hashchange", restored);
  // drawn anew as it was, with the tables open that were open
  const again = () => {
    const open = [...area.querySelectorAll("details")].map((one) => one.open);
    render();
    [...area.querySelectorAll("details")].forEach((one, at) => {
      if (open[at]) one.fill();
      one.open = open[at];
    });
  };
  scheme.addEventListener("change", again);
  const print = (now) => {
    printing = now;
    again();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  render();
})();
