// The view of curves and their knees.

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
const denseOf = (row) => (row.sparsity[0] === 0 ? row.value[0] : null); // over the seeds of the curve
const pointsOf = (row) => row.sparsity.map((sparsity, at) => ({
  model: row.model, task: row.task, pattern: row.pattern, metric: row.metric, sparsity, value: row.value[at],
  low: row.low?.[at] ?? null, high: row.high?.[at] ?? null, n_seeds: row.n_seeds[at], note: row.notes?.[at] ?? null,
}));
const POINT = columns("model", "task", "pattern", "metric", "sparsity", "value", "low", "high", "n_seeds", "note");
const KNEE = columns("model", "task", "pattern", "metric", "essential_sparsity", "essential_sparsity_low", "essential_sparsity_high", "bracket_low",
  "bracket_high", "notes", "last_compliant", "kneedle", "hinge", "dense", "epsilon", "metric_at_knee", "n_items", "n_seeds_min", "n_seeds_max", "n_missing", "reason");
const KNEE_SHOWN = KNEE.slice(0, 10).concat(columns("dense")); // the download has the other readings too
const worded = (knee) => (!knee ? "no knee" : knee.essential_sparsity === null ? knee.said : `essential sparsity ${knee.said}`);
const titleOf = (row) => ({
  pattern: `${LABELS.model(row.model)} on ${LABELS.task(row.task)}`,
  model: `${LABELS.task(row.task)}, ${LABELS.pattern(row.pattern)}`,
  task: `${LABELS.model(row.model)}, ${LABELS.pattern(row.pattern)}`,
})[state.by];
// `dense`: the largest, where they differ; `ends`: of the bands of seeds, and of those in `shaped` the `lowest`, which are drawn whole
const ranged = (metric, values, shaped, dense, differ, ends, lowest) => {
  const unit = (value) => `${number(value)}${DATA.metrics[metric].percent ? " %" : ""}`;
  const [least, bottom, top] = [Math.min(...values), Math.min(...values, ...ends), Math.max(...values, ...ends)];
  if (DATA.metrics[metric].log) {
    const cut = dense !== null && top > 10 * dense ? 10 * dense : null;
    return { range: [Math.log10(bottom / 1.03), Math.log10((cut ?? top) * 1.07)], note: cut ? `The vertical axis ends at 10 × ${differ ? "the largest dense value" : "dense"}; the highest value is ${unit(top)}.` : null };
  }
  const [low, high] = shaped.length ? [Math.min(...shaped), Math.max(...shaped)] : [0, 0];
  const cut = Math.min(low - 0.35 * (high - low), high - DATA.metrics[metric].shown, lowest);
  if (high > low && least < Math.min(cut, low - (high - low))) {
    return { range: [cut, top + 0.08 * (high - cut)], note: `The vertical axis is cut; the lowest value is ${unit(least)}.` };
  }
  const room = (top - bottom || Math.abs(top) || 1) * 0.06;
  return { range: [bottom - room, top + room], note: null };
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
  const known = by === "pattern" ? rows.filter((row) => denseOf(row) !== null) : []; // the level of the first is drawn
  const dense = known.length ? denseOf(known[0]) : null;
  const level = dense === null ? null : times * dense;
  const differ = known.some((row) => Math.abs(denseOf(row) - dense) > 1e-5 * Math.abs(dense));
  const all = rows.flatMap((row) => row.value).map((value) => times * value);
  const shaped = rows.filter((row) => !DATA.patterns[row.pattern].random).flatMap((row) => row.value).map((value) => times * value);
  const bands = (some, ...sides) => some.flatMap((row) => sides.flatMap((side) => row[side] ?? [])).filter((value) => value !== null).map((value) => times * value);
  const ends = bands(rows, "low", "high");
  const lowest = Math.min(...bands(rows.filter((row) => !DATA.patterns[row.pattern].random), "low"));
  const { range, note } = ranged(metric, all, shaped, level === null ? null : times * Math.max(...known.map(denseOf)), differ, ends, lowest);
  const last = 100 * Math.max(0.2, ...rows.flatMap((row) => row.sparsity));
  const knees = rows.map((row) => kneeOf.get(key(row.model, row.task, row.pattern, row.metric)));
  const name = (row) => LABELS[by](row[by]);
  const strip = 15 * rows.length + 6;
  const height = 300 + strip;
  const make = () => {
    const traces = [];
    rows.forEach((row, at) => {
      const { colour, symbol } = styles.get(row[by]);
      const pruned = pointsOf(row).filter((point) => point.sparsity > 0);
      const points = pruned.length > 1 ? pointsOf(row) : pruned; // of one level there is no curve
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
    const limit = knees[rows.indexOf(known[0])]?.limit ?? null;
    const across = { xref: "paper", x0: 0, x1: 1, layer: "below" };
    const shapes = dense !== null ? [{ ...across, type: "line", y0: level, y1: level, line: { color: look().text, width: 1, dash: "dash" } }] : [];
    if (dense !== null && limit !== null) shapes.push({ ...across, type: "rect", y0: level, y1: times * limit, fillcolor: look().band, line: { width: 0 } });
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
  const points = rows.flatMap(pointsOf);
  const whose = differ ? `, of the seeds of ${name(known[0])}, and so is its tolerance; each line starts at the dense mean of its own seeds` : "";
  return element("section", { class: "panel" },
    element("h3", {}, titleOf(rows[0])),
    element("p", { class: "soft" }, LABELS.metric(metric) + (dense !== null ? `; dense ${inUnit(metric, dense)}${whose}` : "")),
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
    const seen = new Map(shown.flat().flatMap(pointsOf).map((point) => [key(point.model, point.task, point.pattern, point.metric, point.sparsity), point]));
    const knees = rows.map((row) => kneeOf.get(key(row.model, row.task, row.pattern, row.metric))).filter(Boolean);
    downloads([["curves", POINT, [...seen.values()]], ["knees", KNEE, knees]]);
    if (!panels.length) {
      area.append(nothing(CURVES.length ? "No curve is of what is chosen above." : "No run of this study has a defined metric: there is no curve. The data report says what is missing."));
      return "No curve is drawn.";
    }
    area.append(
      element("p", { class: "soft" }, "Lines are means over seeds, shaded where several were run: their range. Dashed: the dense model, grey: its tolerance. A level that lacks seeds stands as far from dense as its own are. Diamonds and ticks mark the essential sparsity; at the foot, " +
        "wide and pale: the two levels that hold it, thin: its 95 % interval over items and seeds; with one seed, where training, a random mask or a calibration is drawn, it is that seed's. The value of a point shows when it is pointed at, and stands in the table under each chart."),
      element("div", { class: "panels" }, ...shown.map(curvePanel)),
      folded(`Essential sparsities of what is drawn (${knees.length})`, () => table("Essential sparsities, from table knees; the download has its other readings", KNEE_SHOWN, knees), true));
    const all = panels.reduce((sum, one) => sum + one.length, 0);
    return `${count(rows.length, "curve")} in ${count(shown.length, "chart")}${last > 1 ? ` are drawn, page ${page} of ${last}; ${all.toLocaleString("en")} are chosen` : " are drawn"}.`;
  },
};
