// All of it.

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
