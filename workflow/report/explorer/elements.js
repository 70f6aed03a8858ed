// Elements of the page. Texts of cells become text nodes.

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
