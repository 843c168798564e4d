// The result of a task: rendered, as tables, as a tree, as pages with boxes, and to download.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import DOMPurify from "dompurify";
import { marked } from "marked";
import { ask } from "./api.js";
import { openArchive } from "./archive.js";
import { bytes, capital, stem, words } from "./format.js";
import { FORMATS } from "./options.jsx";
import { Pages } from "./pages.jsx";

const EXTENSIONS = { md: "md", text: "txt", html: "html", json: "json", doctags: "doctags", yaml: "yaml", vtt: "vtt", latex: "tex", html_split_page: "html" };
const TYPES = { json: "application/json", html: "text/html", md: "text/markdown" };
const previewStyle = new URL(document.querySelector("meta[name=preview-style]").content, location.href).href;

export function Result({ taskId, name }) {
  const [state, setState] = useState({ loading: true });
  useEffect(() => {
    let gone = false;
    load(taskId).then((loaded) => !gone && setState(loaded), (error) => !gone && setState({ error: error.message }));
    return () => { gone = true; };
  }, [taskId]);
  if (state.loading) return <p class="quiet">Fetching the result.</p>;
  if (state.error) return <p class="error" role="alert">{state.error}</p>;
  if (state.archive) return <Archive blob={state.archive} name="converted_docs.zip" />;
  if (state.body.num_converted !== undefined) return <Delivered body={state.body} />;
  if (state.body.chunks) return <Chunks body={state.body} name={name} />;
  return <Document body={state.body} name={name} />;
}

async function load(taskId) {
  const reply = await ask(`v1/result/${taskId}`);
  if (!reply.headers.get("content-type").startsWith("application/json")) return { archive: await reply.blob() };
  const body = await reply.json();
  if (body.kind === "TaskFailureResult") return { error: capital(body.failure.message) };
  return { body };
}

function Chunks({ body, name }) {
  const lines = body.chunks.map((chunk) => JSON.stringify(chunk)).join("\n");
  return (
    <div class="result">
      <p>{body.chunks.length} chunks</p>
      <ol class="chunks">{body.chunks.slice(0, FIRST).map((chunk) => (
        <li><b>{(chunk.headings || []).join(" › ")}</b> <span class="quiet">{chunk.num_tokens ? `${chunk.num_tokens} tokens` : ""}{chunk.page_numbers?.length ? ` page ${chunk.page_numbers.join(", ")}` : ""}</span><p>{chunk.raw_text || chunk.text}</p></li>
      ))}</ol>
      <p class="downloads"><Download blob={new Blob([lines], { type: "application/x-ndjson" })} name={`${stem(name)}.chunks.jsonl`} /></p>
    </div>
  );
}

// An archive of results: a document of it is shown, and all of it can be downloaded.
export function Archive({ blob, name, documents }) {
  const [state, setState] = useState(documents ? { documents } : { loading: true });
  const [open, setOpen] = useState(0);
  useEffect(() => {
    if (documents) return undefined;
    let gone = false;
    openArchive(blob, name).then((found) => !gone && setState({ documents: found }), (error) => !gone && setState({ error: error.message }));
    return () => { gone = true; };
  }, [blob]);
  const now = state.documents?.[open];
  return (
    <div class="archive">
      <p><Download blob={blob} name={name} /></p>
      {state.loading && <p class="quiet">Opening the archive.</p>}
      {state.error && <p class="error" role="alert">{state.error}</p>}
      {state.documents?.length > 1 && (
        <div class="field"><label for="in-archive">Document</label>
          <select id="in-archive" value={open} onChange={(e) => setOpen(Number(e.currentTarget.value))}>
            {state.documents.map((one, index) => <option value={index}>{one.name}</option>)}
          </select>
        </div>
      )}
      {now && <Document key={open} body={{ document: now.document }} name={now.name} files={now.files} />}
    </div>
  );
}

// What went to a storage or an address instead of the answer.
function Delivered({ body }) {
  const counts = [[body.num_succeeded, "delivered"], [body.num_partially_succeeded, "delivered in part"], [body.num_failed, "failed"]];
  return (
    <div class="result">
      <p>{counts.filter(([count], index) => count || !index).map(([count, what]) => `${count} ${what}`).join(", ")}.</p>
      {(body.documents || []).map((one) => (
        <section>
          <h4>{one.filename}</h4>
          {one.errors?.length > 0 && <p class="error">{one.errors.map((error) => error.error_message).join("\n")}</p>}
          <p class="downloads">{one.artifacts.map((artifact) => <a class="button" href={artifact.uri} rel="noreferrer" target="_blank">{words(artifact.artifact_type)}</a>)}</p>
        </section>
      ))}
    </div>
  );
}

export function Download({ blob, name }) {
  const address = useMemo(() => URL.createObjectURL(blob), [blob]);
  useEffect(() => () => URL.revokeObjectURL(address), [address]);
  return <a class="button" href={address} download={name}>Download {name} ({bytes(blob.size)})</a>;
}

// `files` are offered for download where they exist already, in an archive.
function Document({ body, name, files }) {
  const doc = body.document || {};
  const shown = useMemo(() => tabsOf(doc), [body]);
  const [open, setOpen] = useState(0);
  const tabs = useRef([]);
  const now = shown[Math.min(open, shown.length - 1)];
  const complaints = (body.errors || []).map((error) => error.error_message);
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (open + step + shown.length) % shown.length;
    setOpen(next);
    tabs.current[next].focus();
  };
  return (
    <div class="result">
      {complaints.length > 0 && <p class="error" role="alert">{complaints.join("\n")}</p>}
      {shown.length > 0 && (
        <>
          <div class="tabs" role="tablist" aria-label="Result" onKeyDown={keys}>
            {shown.map((tab, index) => (
              <button type="button" role="tab" id={`tab-${tab.id}`} aria-controls="panel" aria-selected={tab === now}
                tabIndex={tab === now ? 0 : -1} ref={(element) => { tabs.current[index] = element; }}
                onClick={() => setOpen(index)}>{tab.title}</button>
            ))}
          </div>
          <div id="panel" role="tabpanel" tabIndex={0} aria-labelledby={`tab-${now.id}`}><now.View {...now} /></div>
          <p class="downloads">{(files || filesOf(doc, name)).map((file) => <Download key={file.name} {...file} />)}</p>
        </>
      )}
      {!shown.length && !complaints.length && <p class="quiet">The result has no content.</p>}
    </div>
  );
}

const filesOf = (doc, name) => Object.entries(contents(doc)).map(([format, text]) => ({
  blob: new Blob([text], { type: TYPES[format] || "text/plain" }),
  name: `${stem(doc.filename || name)}.${EXTENSIONS[format] || format}`,
}));

function contents(doc) {
  const found = {};
  for (const [field, value] of Object.entries(doc)) {
    const format = field.match(/^(.*)_content$/)?.[1];
    if (format && value !== null && value !== undefined) {
      found[format] = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    }
  }
  return found;
}

function tabsOf(doc) {
  const texts = contents(doc);
  const tabs = [];
  const json = doc.json_content;
  for (const [format, text] of Object.entries(texts)) {
    const title = FORMATS[format] || format;
    if (format === "md") tabs.push({ id: "md", title, View: Markdown, text }, { id: "md-source", title: "Markdown source", View: Source, text });
    else if (format === "html") tabs.push({ id: format, title, View: Html, text });
    else if (format === "json") tabs.push({ id: format, title: "JSON tree", View: Tree, value: json });
    else tabs.push({ id: format, title, View: Source, text });
  }
  const hasPages = (one) => Object.values(one?.pages || {}).some((page) => page.image?.uri);
  const drawn = [json, doc.laid_out].find(hasPages);
  const tables = json?.tables || doc.laid_out?.tables || [];
  if (tables.length) tabs.splice(1, 0, { id: "tables", title: `Tables (${tables.length})`, View: Tables, tables });
  if (drawn) tabs.unshift({ id: "pages", title: "Pages", View: Pages, document: drawn });
  return tabs;
}

function Markdown({ text }) {
  const html = useMemo(() => {
    const raw = marked.parse(text, { gfm: true });
    return DOMPurify.sanitize(raw, { FORBID_TAGS: ["style", "form", "input", "button"], FORBID_ATTR: ["style", "id", "class"] });
  }, [text]);
  return <div class="rendered" dangerouslySetInnerHTML={{ __html: html }} />;
}

// In a frame that may run nothing and belongs to no origin; styled by a file of the server, since
// the page's policy allows no styles inside of documents.
function Html({ text }) {
  const source = useMemo(() => {
    // Without its style elements, which the policy would refuse one by one.
    const plain = text.replace(/<style[\s\S]*?<\/style>/gi, "");
    const clean = DOMPurify.sanitize(plain, { WHOLE_DOCUMENT: true, FORBID_TAGS: ["style", "link", "form"], FORBID_ATTR: ["style"] });
    return clean.replace("<head>", `<head><meta charset="utf-8"><link rel="stylesheet" href="${previewStyle}">`);
  }, [text]);
  return <iframe title="HTML preview" sandbox="" srcDoc={source} />;
}

function Source({ text }) {
  return <pre>{text}</pre>;
}

function Tables({ tables }) {
  return tables.map((table, number) => {
    const grid = table.data?.grid || [];
    const csv = grid.map((row) => row.map((cell) => `"${cell.text.replaceAll('"', '""')}"`).join(",")).join("\n");
    return (
      <figure class="table">
        <figcaption>Table {number + 1}{table.prov?.[0] ? `, page ${table.prov[0].page_no}` : ""}</figcaption>
        <div class="scroll"><table><tbody>
          {grid.map((row, r) => (
            <tr>{row.map((cell, c) => {
              // A cell that spans several is in the grid at each of its places.
              if (cell.start_row_offset_idx !== r || cell.start_col_offset_idx !== c) return null;
              const Cell = cell.column_header || cell.row_header ? "th" : "td";
              return <Cell rowSpan={cell.row_span} colSpan={cell.col_span}>{cell.text}</Cell>;
            })}</tr>
          ))}
        </tbody></table></div>
        <Download blob={new Blob([csv], { type: "text/csv" })} name={`table-${number + 1}.csv`} />
      </figure>
    );
  });
}

const FIRST = 100;

function Tree({ value }) {
  return <div class="tree"><Node name="document" value={value} open /></div>;
}

function Node({ name, value, open = false }) {
  const [isOpen, setOpen] = useState(open);
  const [all, setAll] = useState(false);
  if (value === null || typeof value !== "object") {
    const text = JSON.stringify(value);
    return <div class="leaf"><b>{name}</b>: <span>{text.length > 400 ? `${text.slice(0, 400)}…` : text}</span></div>;
  }
  const entries = Object.entries(value);
  const size = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  return (
    <details open={isOpen} onToggle={(e) => { e.stopPropagation(); setOpen(e.currentTarget.open); }}>
      <summary><b>{name}</b> {size}</summary>
      {isOpen && entries.slice(0, all ? undefined : FIRST).map(([key, item]) => <Node key={key} name={key} value={item} />)}
      {isOpen && !all && entries.length > FIRST && <button type="button" class="plain" onClick={() => setAll(true)}>Show all {entries.length}</button>}
    </details>
  );
}
