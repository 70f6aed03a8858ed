// The view is the fragment of the address, so that a link restores it; colours follow the page's scheme.

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
