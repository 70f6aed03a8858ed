// What the explorer draws, of the tables that stand in it. Nothing is estimated here: intervals, means and texts are the tables'.
// The files of this folder are joined in the order of figures/explorer.py, in one function: what one says, those after it know.

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
