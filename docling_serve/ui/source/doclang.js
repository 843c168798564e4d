// Reads DocLang, the markup in a .dclx archive: as HTML, and as items with a page and a box, in the
// shape of a DoclingDocument, for the views of pages and tables.

const INLINE = { bold: "b", italic: "i", underline: "u", strikethrough: "s", superscript: "sup", subscript: "sub", handwriting: "i" };
const BLOCKS = { text: "p", footnote: "p", page_header: "p", page_footer: "p", formula: "pre", code: "pre", caption: "p", group: "div", field_region: "div" };
const SILENT = new Set(["location", "layer", "thread", "label", "marker", "head", "custom", "index", "href", "xref", "src"]);
const CELLS = new Set(["fcel", "ecel", "ched", "rhed", "corn", "srow"]);
const SPANS = { lcel: [0, 1], ucel: [1, 0], xcel: [1, 1] };
const GRID = 512; // locations count from the top left, in parts of a page

const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const childrenOf = (element, name) => [...element.children].filter((child) => child.localName === name);

// `picture(uri)` returns the data URL of a file of the archive, or undefined; `pages` maps the
// number of a page to the data URL of its image.
export function readDocLang(xml, { picture = () => undefined, pages = {} } = {}) {
  const root = new DOMParser().parseFromString(xml, "application/xml").documentElement;
  if (root.localName !== "doclang") throw new Error("The archive holds no DocLang document.");
  const found = { pages: {}, texts: [], tables: [], pictures: [] };
  for (const [number, uri] of Object.entries(pages)) {
    found.pages[number] = { page_no: Number(number), size: { width: GRID, height: GRID }, image: { uri } };
  }
  const reader = { page: 1, found, picture };
  const html = inside(root, reader);
  return { html: `<!doctype html><html><head><title></title></head><body>${html}</body></html>`, document: found };
}

function inside(element, reader) {
  return [...element.childNodes].map((node) => shown(node, reader)).join("");
}

function shown(node, reader) {
  if (node.nodeType !== Node.ELEMENT_NODE) return escaped(node.data ?? "");
  const name = node.localName;
  if (name === "page_break") {
    reader.page += 1;
    return "<hr>";
  }
  if (SILENT.has(name)) return "";
  if (name === "br") return "<br>";
  if (Object.hasOwn(INLINE, name)) return `<${INLINE[name]}>${inside(node, reader)}</${INLINE[name]}>`;
  if (name === "checkbox") return node.getAttribute("class") === "selected" ? "☑ " : "☐ ";
  if (name === "table") return table(node, reader);
  if (name === "picture") return figure(node, reader);
  if (name === "list") return list(node, reader);
  if (name === "heading") {
    note(reader, "texts", "section_header", node);
    const level = Math.min(6, Number(node.getAttribute("level")) || 1);
    return `<h${level}>${inside(node, reader)}</h${level}>`;
  }
  const tag = Object.hasOwn(BLOCKS, name) && BLOCKS[name];
  if (!tag) return inside(node, reader);
  if (tag !== "div") note(reader, "texts", name, node);
  return `<${tag}>${inside(node, reader)}</${tag}>`;
}

// An item of the page, if these nodes say where it lies.
function note(reader, kind, label, node, { nodes = [...node.childNodes], more } = {}) {
  const at = nodes.filter((one) => one.localName === "location").slice(0, 4).map((one) => Number(one.getAttribute("value")));
  const text = nodes.filter((one) => !SILENT.has(one.localName)).map((one) => one.textContent).join("").replace(/\s+/g, " ").trim();
  const [l, t, r, b] = at;
  const prov = at.length === 4 ? [{ page_no: reader.page, bbox: { l, t, r, b, coord_origin: "TOPLEFT" } }] : [];
  const items = reader.found[kind];
  items.push({ self_ref: `#/${kind}/${items.length}`, label, text, prov, ...more });
}

// Parts of an element that begin at each child which `starts` one.
function parts(element, starts) {
  const found = [];
  for (const node of element.childNodes) {
    if (node.nodeType === Node.ELEMENT_NODE && starts(node)) found.push({ start: node, nodes: [] });
    else found.at(-1)?.nodes.push(node);
  }
  return found;
}

function list(element, reader) {
  const tag = element.getAttribute("class") === "ordered" ? "ol" : "ul";
  const items = parts(element, (node) => node.localName === "ldiv").map(({ start, nodes }) => {
    note(reader, "texts", "list_item", start, { nodes });
    return `<li>${nodes.map((node) => shown(node, reader)).join("")}</li>`;
  });
  return `<${tag}>${items.join("")}</${tag}>`;
}

function figure(element, reader) {
  note(reader, "pictures", "picture", element);
  const source = childrenOf(element, "src")[0]?.getAttribute("uri");
  const address = source && reader.picture(source);
  return `<figure>${address ? `<img alt="" src="${escaped(address)}">` : ""}${inside(element, reader)}</figure>`;
}

// A cell is a mark and what follows it; marks without content extend the cell beside or above.
function table(element, reader) {
  const caption = childrenOf(element, "caption").map((one) => shown(one, reader)).join("");
  const rows = [[]];
  for (const { start, nodes } of parts(element, (node) => node.localName === "nl" || CELLS.has(node.localName) || Object.hasOwn(SPANS, node.localName))) {
    if (start.localName === "nl") rows.push([]);
    else rows.at(-1).push({ mark: start.localName, nodes });
  }
  const grid = gridOf(rows.filter((row) => row.length));
  note(reader, "tables", "table", element, { nodes: [...element.childNodes].filter((node) => node.localName === "location"), more: { data: { grid } } });
  const body = grid.map((row, r) => `<tr>${row.map((cell, c) => {
    if (cell.start_row_offset_idx !== r || cell.start_col_offset_idx !== c) return "";
    const tag = cell.column_header || cell.row_header ? "th" : "td";
    const html = cell.nodes.map((node) => shown(node, reader)).join("");
    return `<${tag} rowspan="${cell.row_span}" colspan="${cell.col_span}">${html}</${tag}>`;
  }).join("")}</tr>`).join("");
  return `${caption}<table>${body}</table>`;
}

function gridOf(rows) {
  const grid = [];
  for (const [r, row] of rows.entries()) {
    grid.push([]);
    for (const [c, { mark, nodes }] of row.entries()) {
      const [up, left] = SPANS[mark] || [0, 0];
      const origin = (up || left) && grid[r - up]?.[c - left];
      if (origin) {
        origin.row_span = Math.max(origin.row_span, r - origin.start_row_offset_idx + 1);
        origin.col_span = Math.max(origin.col_span, c - origin.start_col_offset_idx + 1);
      }
      grid[r].push(origin || {
        nodes, text: nodes.map((node) => node.textContent).join("").replace(/\s+/g, " ").trim(),
        row_span: 1, col_span: 1, start_row_offset_idx: r, start_col_offset_idx: c,
        column_header: ["ched", "corn"].includes(mark), row_header: ["rhed", "srow", "corn"].includes(mark),
      });
    }
  }
  return grid;
}
