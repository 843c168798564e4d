// The Convert view: documents come in, each is a row, the result of the chosen one is below.
import { useEffect, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { apiKey } from "./api.js";
import { bytes, capital } from "./format.js";
import { isArchive, openArchive } from "./archive.js";
import { cancel, convert, drop, finished, resume, rows, selected, send, show } from "./jobs.js";
import { Formats, Options, chosen, further, requested, target } from "./options.jsx";
import { Archive, Result } from "./result.jsx";
import { SAMPLES, sample } from "./samples.js";
import { snippets } from "./snippets.js";
import { offered, ready, route } from "./store.js";

const dragging = signal(false);
const picked = signal([]);
const url = signal("");
const error = signal("");

// Files to convert are collected; archives of results are shown at once.
export async function addFiles(files) {
  for (const file of [...files]) {
    const documents = isArchive(file.name) && await openArchive(file, file.name).catch(() => null);
    if (documents) show(file, documents);
    else picked.value = [...picked.value, file];
  }
}

// Documents may be dropped, or pasted, anywhere on the page.
export function listenForDrops() {
  const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    dragging.value = true;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dragging.value = false;
  });
  addEventListener("drop", (event) => {
    dragging.value = false;
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (route.value.view !== "convert") location.hash = "#/convert";
    addFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) addFiles(event.clipboardData.files);
  });
}

async function submit(event) {
  event.preventDefault();
  error.value = "";
  try {
    const sources = [...picked.value, ...(url.value.trim() ? [url.value.trim()] : [])];
    if (!sources.length) throw new Error("Choose files, or give an address.");
    const asked = requested();
    picked.value = [];
    url.value = "";
    await convert(sources, asked);
  } catch (problem) {
    error.value = problem.message;
  }
}

async function tryOut(name) {
  error.value = "";
  try {
    await convert([await sample(name)], requested());
  } catch (problem) {
    error.value = problem.message;
  }
}

export function Convert() {
  useEffect(() => resume(route.value.ids), [route.value.ids.join()]);
  const row = rows.value.find((one) => one.key === selected.value);
  const limits = offered.value?.limits;
  return (
    <main id="main" class="convert">
      <form onSubmit={submit} aria-labelledby="convert-title" noValidate>
        <h2 id="convert-title">Convert documents</h2>
        <div class={`drop${dragging.value ? " over" : ""}`}>
          <label for="files">Files</label>
          <input id="files" type="file" multiple onChange={(e) => { addFiles(e.currentTarget.files); e.currentTarget.value = ""; }} />
          <p class="quiet">Choose, paste, or drop them anywhere on this page.{limits?.max_file_size ? ` At most ${bytes(limits.max_file_size)} each.` : ""}{limits?.max_num_pages ? ` At most ${limits.max_num_pages} pages.` : ""}</p>
          {picked.value.length > 0 && (
            <ul class="picked-files">{picked.value.map((file) => (
              <li>{file.name} <span class="quiet">{bytes(file.size)}</span> <button type="button" class="plain" aria-label={`Remove ${file.name}`}
                onClick={() => { picked.value = picked.value.filter((one) => one !== file); }}>Remove</button></li>
            ))}</ul>
          )}
          <label for="url">or an address</label>
          <input id="url" type="url" inputMode="url" placeholder="https://example.com/report.pdf" value={url.value} onInput={(e) => { url.value = e.currentTarget.value; }} />
        </div>
        <button type="submit" disabled={!ready.value}>Convert</button>
        {error.value && <p class="error" role="alert">{error.value}</p>}
        <Samples />
        <Formats />
        <Options />
        <CopyAs />
      </form>
      <section class="outcome" aria-labelledby="outcome-title">
        <h2 id="outcome-title">Documents</h2>
        {!rows.value.length && <p class="quiet">Nothing converted yet. Results appear here; the address of this page leads back to them.</p>}
        <ol class="rows">{rows.value.map((one) => <Row key={one.key} row={one} />)}</ol>
        {row?.archive && (
          <section aria-label={`Contents of ${row.name}`}>
            <h3>{row.name}</h3>
            <Archive key={row.key} blob={row.archive} name={row.name} documents={row.documents} />
          </section>
        )}
        {row && !row.archive && finished(row) && !row.error && !row.cancelled && (
          <section aria-label={`Result of ${row.name}`}>
            <h3>{row.name || row.taskId}</h3>
            <Result key={row.taskId} taskId={row.taskId} name={row.name} />
          </section>
        )}
      </section>
      {dragging.value && <div class="dropping" aria-hidden="true">Drop to convert</div>}
    </main>
  );
}

function Samples() {
  return (
    <details class="samples" open={!rows.value.length}>
      <summary>Try an example</summary>
      <ul class="picked-files">{SAMPLES.map(([name, about]) => (
        <li><button type="button" class="plain" disabled={!ready.value} onClick={() => tryOut(name)}>Convert {name}</button> <span class="quiet">{about}</span></li>
      ))}</ul>
    </details>
  );
}

export function statusText(row) {
  if (row.archive) return "Opened from this computer.";
  if (row.error) return row.error;
  if (row.cancelled) return "Cancelled.";
  if (row.sending) return "Sending.";
  if (row.away && !finished(row)) return "No connection to the server, trying again.";
  if (!row.status) return row.taskId ? "Looking for the task." : "Waits to be sent.";
  const text = capital(row.status.stage_text || row.status.task_status);
  const failure = row.status.failure?.message || row.status.error_message;
  const why = failure || row.complaint;
  return why ? `${text}: ${why}` : `${text}.`;
}

export function progressOf(status) {
  const meta = status?.task_meta;
  if (!meta || status.task_status !== "started") return undefined;
  const documents = meta.num_docs || 1;
  const pages = meta.total_pages ? meta.completed_pages / meta.total_pages : 0;
  return meta.total_pages || meta.num_processed ? ((meta.num_processed || 0) + pages) / documents : undefined;
}

export const failed = (row) => Boolean(row.error) || row.status?.task_status === "failure"
  || (row.status?.task_meta?.num_failed > 0 && finished(row));

function Row({ row }) {
  const done = finished(row);
  const state = row.cancelled ? "cancelled" : failed(row) ? "failed" : done ? "done" : "running";
  const name = row.name || row.taskId;
  return (
    <li class={`row ${state}${row.key === selected.value ? " selected" : ""}`}>
      <button type="button" class="name" aria-pressed={row.key === selected.value} onClick={() => { selected.value = row.key; }}>{name}</button>
      <span class="state" role="status">{statusText(row)}</span>
      {!done && (row.taskId || row.sending) && <progress max="1" value={progressOf(row.status)} aria-label={`Progress of ${name}`} />}
      <span class="acts">
        {row.taskId && !done && <button type="button" class="plain" aria-label={`Cancel ${name}`} onClick={() => cancel(row.key)}>Cancel</button>}
        {row.source && done && state !== "done" && <button type="button" class="plain" aria-label={`Retry ${name}`} onClick={() => send(row.key)}>Retry</button>}
        {row.archive && /\.dclx$/i.test(row.name) && <button type="button" class="plain" aria-label={`Convert ${name}`} onClick={() => { picked.value = [...picked.value, row.archive]; drop(row.key); }}>Convert it</button>}
        {done && <button type="button" class="plain" aria-label={`Remove ${name}`} onClick={() => drop(row.key)}>Remove</button>}
      </span>
    </li>
  );
}

function CopyAs() {
  const [open, setOpen] = useState("");
  const [said, setSaid] = useState("");
  let code = {};
  try {
    const sources = [...picked.value, ...(url.value.trim() ? [url.value.trim()] : [])];
    code = snippets(sources, requested(), Boolean(apiKey.value));
  } catch {
    // the options are not whole yet
  }
  chosen.value;
  further.value;
  target.value;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code[open]);
      setSaid("Copied.");
    } catch {
      setSaid("The browser allows no copying here: select the text.");
    }
  };
  return (
    <details class="copy">
      <summary>Copy as code</summary>
      <div class="tabs">{["curl", "Python", "JavaScript"].map((kind) => (
        <button type="button" aria-pressed={open === kind} onClick={() => { setOpen(kind); setSaid(""); }}>{kind}</button>
      ))}</div>
      {open && <><pre id="snippet">{code[open]}</pre><button type="button" class="plain" onClick={copy}>Copy</button> <span role="status" class="quiet">{said}</span></>}
    </details>
  );
}
