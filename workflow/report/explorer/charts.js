// Charts of plotly, with a look of their own; texts of cells are escaped in them.

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
