// The options of a request: every one that the server describes, in groups, with its defaults.
import { signal } from "@preact/signals";
import { offered, schema, schemaRead } from "./store.js";
import { words } from "./format.js";
import { request } from "./jobs.js";

const KEPT = "docling-serve-options";
export const chosen = signal(JSON.parse(sessionStorage.getItem(KEPT) || "{}")); // what differs from the defaults
export const further = signal(""); // more options as JSON text
export const chunker = signal(""); // hybrid, hierarchical; empty: documents, not chunks
const SERVERS_CHOICE = { kind: "" };
export const target = signal(SERVERS_CHOICE); // where the result goes: a kind, and the url of a put

export function choose(name, value) {
  const next = { ...chosen.value };
  if (value === undefined) delete next[name];
  else next[name] = value;
  chosen.value = next;
  sessionStorage.setItem(KEPT, JSON.stringify(next));
}

export function reset() {
  chunker.value = "";
  target.value = SERVERS_CHOICE;
  chosen.value = {};
  further.value = "";
  sessionStorage.removeItem(KEPT);
}

const SAVED = "docling-serve-saved-options";
const saved = signal(JSON.parse(localStorage.getItem(SAVED) || "{}"));

function keep(all) {
  saved.value = all;
  localStorage.setItem(SAVED, JSON.stringify(all));
}

// Options under a name, in this browser.
function Saved() {
  const names = Object.keys(saved.value);
  const save = () => {
    const name = document.getElementById("save-as").value.trim();
    if (name) keep({ ...saved.value, [name]: { chosen: chosen.value, further: further.value, chunker: chunker.value, target: target.value } });
  };
  const use = (name) => {
    const set = saved.value[name];
    chosen.value = set.chosen;
    further.value = set.further;
    chunker.value = set.chunker;
    target.value = set.target || SERVERS_CHOICE;
    sessionStorage.setItem(KEPT, JSON.stringify(set.chosen));
  };
  return (
    <details>
      <summary>Saved options{names.length ? ` (${names.length})` : ""}</summary>
      <ul class="picked-files">{names.map((name) => (
        <li><button type="button" class="plain" onClick={() => use(name)}>Use {name}</button> <button type="button" class="plain" aria-label={`Forget ${name}`}
          onClick={() => { const { [name]: _, ...rest } = saved.value; keep(rest); }}>Forget</button></li>
      ))}</ul>
      <div class="pair"><input id="save-as" aria-label="Name for these options" placeholder="name" /><button type="button" class="plain" onClick={save}>Save</button></div>
    </details>
  );
}

const GROUPS = {
  "Text recognition (OCR)": ["do_ocr", "force_ocr", "ocr_preset", "ocr_lang"],
  "Layout and tables": ["layout_preset", "do_table_structure", "table_structure_preset", "table_mode", "table_cell_matching", "do_pdf_heading_hierarchy"],
  "Pages and images": ["page_range", "include_page_images", "include_images", "image_export_mode", "images_scale", "pdf_backend"],
  Enrichment: ["do_code_enrichment", "do_formula_enrichment", "code_formula_preset", "do_picture_classification", "picture_classification_preset", "do_picture_description", "picture_description_preset", "picture_description_area_threshold", "do_chart_extraction", "chart_extraction_preset"],
  "Text output": ["md_page_break_placeholder", "md_compact_tables", "chunking_preset"],
  Processing: ["pipeline", "vlm_pipeline_preset", "from_formats", "document_timeout", "abort_on_error"],
};
// Without a description of the options (enable_api_docs is off) these are known to be there.
const WITHOUT_SCHEMA = {
  do_ocr: { type: "boolean", default: true }, force_ocr: { type: "boolean", default: false },
  do_table_structure: { type: "boolean", default: true }, page_range: { default: [1, 0] },
  include_page_images: { type: "boolean", default: false }, ocr_preset: { type: "string" },
};
const HINTS = { page_range: "Pages", do_ocr: "Read bitmaps (OCR)", force_ocr: "Read whole pages, text layer ignored", ocr_lang: "OCR languages" };

export const FORMATS = { md: "Markdown", json: "JSON", html: "HTML", text: "Text", doctags: "DocTags", yaml: "YAML", vtt: "WebVTT", html_split_page: "HTML, page by page", latex: "LaTeX", chunks: "Chunks", doclang: "DocLang", dclx: "DocLang archive" };

const TARGETS = { inbody: "In the answer, shown here", zip: "As a zip archive", presigned_url: "In the server's storage, as links", put: "Put to an address" };

// The kinds of delivery that this server allows and that need no credentials.
function targetsHere() {
  const { targets, features } = offered.value || {};
  return (targets?.allowed || ["inbody", "zip"]).filter((kind) => Object.hasOwn(TARGETS, kind)
    && (kind !== "presigned_url" || (features?.artifact_storage && !chunker.value)));
}

function Delivery() {
  const { kind, url } = target.value;
  const usual = TARGETS[offered.value?.targets?.default];
  const choose = (next) => { target.value = next === "put" ? { kind: next, url: url || "" } : { kind: next }; };
  return (
    <>
      <div class={`field${kind ? " changed" : ""}`}>
        <label for="target">Deliver results</label>
        <select id="target" value={kind} onChange={(e) => choose(e.currentTarget.value)}>
          <option value="">Default{usual ? ` (${usual.toLowerCase()})` : ""}</option>
          {targetsHere().map((one) => <option value={one}>{TARGETS[one]}</option>)}
        </select>
      </div>
      {kind === "put" && (
        <div class="field"><label for="target-url">Address for the results</label>
          <input id="target-url" type="url" inputMode="url" placeholder="https://example.com/result.zip" value={url} onInput={(e) => { target.value = { kind, url: e.currentTarget.value.trim() }; }} />
        </div>
      )}
    </>
  );
}

// What the form asks for now; throws an Error whose text is for the user.
export function requested() {
  if (target.value.kind === "put" && !target.value.url) throw new Error("Give the address for the results.");
  return request(requestOptions(), chunker.value, target.value);
}

function requestOptions() {
  const options = { ...chosen.value };
  options.to_formats ??= ["md"];
  if (!options.to_formats.length) throw new Error("Choose at least one output format.");
  if (options.page_range) {
    const [first, last] = options.page_range;
    if (first > last) throw new Error("The last page comes before the first.");
  }
  if (further.value.trim()) {
    let more;
    try {
      more = JSON.parse(further.value);
    } catch (error) {
      throw new Error(`Further options are not JSON: ${error.message}`);
    }
    Object.assign(options, more);
  }
  return options;
}

function properties() {
  return schema.value?.properties || WITHOUT_SCHEMA;
}

function resolved(property) {
  const one = property.anyOf ? property.anyOf.find((part) => part.type !== "null") || {} : property;
  if (!one.$ref) return { ...one, default: property.default };
  return { ...schema.value.$defs[one.$ref.split("/").at(-1)], default: property.default };
}

function presetsOf(name) {
  const stage = Object.values(offered.value?.stages || {}).find((one) => one.option === name);
  return stage && { presets: stage.presets, default: stage.default };
}

function Field({ name }) {
  const property = properties()[name];
  const kind = resolved(property);
  const value = chosen.value[name];
  const id = `option-${name}`;
  const about = property.description || "";
  const label = HINTS[name] || words(name.replace(/^do_/, ""));
  const presets = presetsOf(name);
  const modes = name === "image_export_mode" && offered.value?.image_export_modes;
  const mark = value !== undefined ? " changed" : "";
  if (kind.type === "boolean") {
    const now = value ?? kind.default ?? false;
    return (
      <label class={`check${mark}`} title={about}>
        <input type="checkbox" name={name} checked={now}
          onChange={(e) => choose(name, e.currentTarget.checked === kind.default ? undefined : e.currentTarget.checked)} /> {label}
      </label>
    );
  }
  if (name === "page_range") return <PageRange value={value} />;
  let input;
  if (presets || kind.enum) {
    const values = presets ? presets.presets.map((p) => [p.id, p.name || p.id, p.description])
      : (modes || kind.enum).map((v) => [v, v]);
    const usual = presets ? presets.default : kind.default;
    input = (
      <select id={id} name={name} value={value ?? ""} onChange={(e) => choose(name, e.currentTarget.value || undefined)}>
        <option value="">Default{usual ? ` (${usual})` : ""}</option>
        {values.map(([v, text, more]) => <option value={v} title={more || ""}>{text}</option>)}
      </select>
    );
  } else if (kind.type === "number" || kind.type === "integer") {
    input = <input id={id} name={name} type="number" step="any" value={value ?? ""} placeholder={String(kind.default ?? "none")}
      onChange={(e) => choose(name, e.currentTarget.value === "" ? undefined : Number(e.currentTarget.value))} />;
  } else if (kind.type === "array") {
    input = <input id={id} name={name} value={(value || []).join(", ")} placeholder={name === "ocr_lang" ? "en, de" : "all"}
      onChange={(e) => {
        const items = e.currentTarget.value.split(/[\s,]+/).filter(Boolean);
        choose(name, items.length ? items : undefined);
      }} />;
  } else {
    input = <input id={id} name={name} value={value ?? ""} placeholder={kind.default || ""}
      onChange={(e) => choose(name, e.currentTarget.value || undefined)} />;
  }
  return <div class={`field${mark}`} title={about}><label for={id}>{label}</label>{input}</div>;
}

function PageRange({ value }) {
  const [first, last] = value || [];
  const LAST = Number.MAX_SAFE_INTEGER;
  const set = (a, b) => choose("page_range", a || b ? [Number(a || 1), Number(b || LAST)] : undefined);
  return (
    <div class="field" role="group" aria-label="Pages">
      <span>Pages</span>
      <div class="pair">
        <input type="number" min="1" aria-label="First page" placeholder="first" value={first ?? ""}
          onChange={(e) => set(e.currentTarget.value, last === LAST ? "" : last)} />
        <input type="number" min="1" aria-label="Last page" placeholder="last" value={last === LAST ? "" : last ?? ""}
          onChange={(e) => set(first, e.currentTarget.value)} />
      </div>
    </div>
  );
}

export function Formats() {
  const names = offered.value?.output_formats || Object.keys(FORMATS).slice(0, 5);
  const now = chosen.value.to_formats || ["md"];
  const toggle = (name) => {
    const next = now.includes(name) ? now.filter((one) => one !== name) : [...now, name];
    choose("to_formats", next.length === 1 && next[0] === "md" ? undefined : next);
  };
  const shown = chosen.value.include_page_images && now.includes("json") && chosen.value.image_export_mode === "embedded";
  const showPages = (on) => {
    choose("include_page_images", on || undefined);
    choose("image_export_mode", on ? "embedded" : undefined);
    if (on && !now.includes("json")) toggle("json");
  };
  return (
    <fieldset id="formats">
      <legend>Output formats</legend>
      <div class="checks">
        {names.map((name) => (
          <label class="check"><input type="checkbox" checked={now.includes(name)} onChange={() => toggle(name)} /> {FORMATS[name] || name}</label>
        ))}
      </div>
      <div class="field">
        <label for="chunker">Cut into chunks</label>
        <select id="chunker" value={chunker.value} onChange={(e) => { chunker.value = e.currentTarget.value; }}>
          <option value="">No, whole documents</option>
          <option value="hybrid">By structure and length (hybrid)</option>
          <option value="hierarchical">By structure (hierarchical)</option>
        </select>
      </div>
      <Delivery />
      <label class="check"><input type="checkbox" checked={Boolean(shown)} onChange={(e) => showPages(e.currentTarget.checked)} /> Show pages with what was recognised</label>
    </fieldset>
  );
}

export function Options() {
  if (!schemaRead.value) return <p class="quiet">Reading the options of this server.</p>;
  const there = properties();
  const grouped = new Set(Object.values(GROUPS).flat());
  const changed = Object.keys(chosen.value).length + (target.value.kind ? 1 : 0);
  const plain = Object.keys(there).filter((name) =>
    !grouped.has(name) && name !== "to_formats" && !there[name].deprecated
    && ["boolean", "string", "number", "integer"].includes(resolved(there[name]).type));
  const open = (names) => names.some((name) => chosen.value[name] !== undefined);
  const groups = plain.length ? { ...GROUPS, Other: plain } : GROUPS;
  return (
    <section id="options" aria-label="Options">
      {Object.entries(groups).map(([title, names]) => {
        const here = names.filter((name) => there[name]);
        return here.length > 0 && (
          <details open={title.startsWith("Text rec") || open(here)}>
            <summary>{title}</summary>
            <div class="fields">{here.map((name) => <Field key={name} name={name} />)}</div>
          </details>
        );
      })}
      <details open={Boolean(further.value)}>
        <summary>Further options as JSON</summary>
        <label for="further" class="quiet">Anything that the API takes, e.g. a custom configuration where the server allows one</label>
        <textarea id="further" rows="4" spellcheck={false} value={further.value} onInput={(e) => { further.value = e.currentTarget.value; }} />
      </details>
      <Saved />
      {changed > 0 && <button type="button" class="plain" onClick={reset}>Back to the defaults</button>}
    </section>
  );
}
