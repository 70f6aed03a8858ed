// The view of layers.

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
    const most = state.share === "rate" ? 100 : Math.max(1e-9, ...grid.flat().filter((value) => value !== null));
    const cells = grid.flatMap((row, down) => row.map((value, across) => ({ value, down, across }))).filter((cell) => cell.value !== null);
    const make = () => {
      const wide = area.clientWidth / blocks.length > 62;
      // plotly's own text on a cell is grey where the cell is bright
      const digits = { type: "scatter", mode: "text", meta: "digits", x: cells.map((cell) => cell.across), y: cells.map((cell) => -cell.down), text: cells.map((cell) => cell.value.toFixed(1)), textfont: { color: cells.map((cell) => (cell.value > 0.44 * most ? "#000" : "#fff")) }, hoverinfo: "skip" };
      return {
        traces: [{
          type: "heatmap", z: grid, x: blocks.map((_, at) => at), y: roles.map((_, at) => -at), zmin: 0, colorscale: state.share === "rate" ? "Viridis" : "Cividis", xgap: 1, ygap: 1, meta: "layers", hoverinfo: "text", hoverongaps: false,
          zmax: most, colorbar: { thickness: 12, ticksuffix: " %", outlinewidth: 0, tickfont: { color: look().soft } },
          hovertext: grid.map((row, down) => row.map((value, across) => lines(`${roles[down]}, block ${blocks[across]}`, value === null ? "no such matrix" : `${number(value)} %`, `${(level.pruned[down * blocks.length + across] ?? 0).toLocaleString("en")} of ${(n[down * blocks.length + across] ?? 0).toLocaleString("en")} pruned`))),
        }, ...(wide ? [digits] : [])],
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
