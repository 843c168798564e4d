// The pages as images, with a box around each thing that was recognised.
import { useMemo, useState } from "preact/hooks";
import { words } from "./format.js";

const KINDS = { texts: "text", tables: "table", pictures: "picture", key_value_items: "other", form_items: "other" };

function itemsByPage(document) {
  const found = {};
  for (const [list, kind] of Object.entries(KINDS)) {
    for (const item of document[list] || []) {
      for (const prov of item.prov || []) {
        const label = item.label || kind;
        const group = /header|title/.test(label) ? "heading" : kind;
        (found[prov.page_no] ||= []).push({ ref: item.self_ref, label, group, text: item.text || "", bbox: prov.bbox });
      }
    }
  }
  return found;
}

export function Pages({ document }) {
  const items = useMemo(() => itemsByPage(document), [document]);
  const [hidden, setHidden] = useState([]);
  const [picked, setPicked] = useState(null);
  const groups = [...new Set(Object.values(items).flat().map((item) => item.group))];
  const toggle = (group) => setHidden(hidden.includes(group) ? hidden.filter((one) => one !== group) : [...hidden, group]);
  return (
    <div class="pages">
      <p class="legend" role="group" aria-label="Boxes">{groups.map((group) => (
        <label class={`check box-${group}`}><input type="checkbox" checked={!hidden.includes(group)} onChange={() => toggle(group)} /> {words(group)}</label>
      ))}</p>
      <p class="picked" aria-live="polite">{picked ? <><b>{words(picked.label)}</b> {picked.text || picked.ref}</> : "Choose a box to read what it holds."}</p>
      {Object.values(document.pages).filter((page) => page.image?.uri).map((page) => (
        <figure key={page.page_no}>
          <figcaption>Page {page.page_no}</figcaption>
          <div class="sheet">
            <img src={page.image.uri} alt={`Page ${page.page_no}`} />
            <svg viewBox={`0 0 ${page.size.width} ${page.size.height}`} preserveAspectRatio="none">
              {(items[page.page_no] || []).filter((item) => !hidden.includes(item.group)).map((item) => (
                <Box item={item} height={page.size.height} picked={picked === item} onPick={() => setPicked(item)} />
              ))}
            </svg>
          </div>
        </figure>
      ))}
    </div>
  );
}

function Box({ item, height, picked, onPick }) {
  const { l, t, r, b, coord_origin: origin } = item.bbox;
  const top = origin === "BOTTOMLEFT" ? height - Math.max(t, b) : Math.min(t, b);
  const keys = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      onPick();
    }
  };
  return (
    <rect class={`box-${item.group}${picked ? " picked-box" : ""}`} x={l} y={top} width={r - l} height={Math.abs(t - b)}
      role="button" tabindex={0} aria-label={`${words(item.label)}: ${item.text.slice(0, 80)}`} onClick={onPick} onKeyDown={keys}>
      <title>{words(item.label)}{item.text ? `: ${item.text.slice(0, 200)}` : ""}</title>
    </rect>
  );
}
