// The view of pairs: comparisons of essential sparsities and paired differences.

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
// cut in its middle: names of items and matrices differ at their end
const short = (text, most) => (text.length > most ? `${text.slice(0, Math.floor(most / 3))}…${text.slice(text.length - most + 1 + Math.floor(most / 3))}` : text);
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
