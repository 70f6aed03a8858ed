// The views of items and of data.

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
