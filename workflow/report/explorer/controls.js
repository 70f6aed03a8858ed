// What is chosen: lists, bars, pages, downloads.

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
