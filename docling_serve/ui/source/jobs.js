// The documents of the Convert view: each is sent as a task of its own and followed to its end.
import { signal } from "@preact/signals";
import { ask, getJson, pause, stream } from "./api.js";
import { goTo, route } from "./store.js";

export const rows = signal([]);
export const selected = signal(null); // key of the row whose result is shown

const STREAMS = 2; // a browser opens six connections to a server: the rest is polled
const POLL_MS = 2500;
let keys = 0;
let polling = false;
const streaming = new Set();
// What this tab has sent, so that it can be sent again.
export const sent = new Map();

export const finished = (row) => Boolean(row.error) || row.cancelled
  || Boolean(row.archive) || ["success", "failure"].includes(row.status?.task_status);

export function change(key, changes) {
  rows.value = rows.value.map((row) => (row.key === key ? { ...row, ...changes } : row));
}
const find = (key) => rows.value.find((row) => row.key === key);

// What a request asks for: its options, how to chunk ("" for whole documents), and where the result
// goes ({kind, url}; the empty kind leaves that to the server).
export const request = (options, chunker = "", target = { kind: "" }) => ({ options, chunker, target });

// Sends each source, a File or an address, as a request of its own.
export async function convert(sources, asked) {
  const added = sources.map((source) => ({
    key: ++keys, name: typeof source === "string" ? source : source.name,
    size: source.size, source, asked, taskId: null, status: null, error: "", cancelled: false,
  }));
  rows.value = [...added, ...rows.value];
  selected.value = added[0].key;
  for (const row of added) await send(row.key);
}

// Shows an archive of results from this computer; the server has no part in it.
export function show(file, documents) {
  const row = { key: ++keys, name: file.name, archive: file, documents, source: null, taskId: null, status: null, error: "", cancelled: false };
  rows.value = [row, ...rows.value];
  selected.value = row.key;
}

export async function send(key) {
  const { source, asked } = find(key);
  change(key, { error: "", cancelled: false, status: null, taskId: null, sending: true });
  try {
    const reply = await (typeof source === "string" ? sendJson({ kind: "http", url: source }, asked) : sendFile(source, asked));
    const status = await reply.json();
    sent.set(status.task_id, { source, asked });
    change(key, { taskId: status.task_id, status, sending: false });
    remember();
    follow();
  } catch (error) {
    change(key, { error: error.message, sending: false });
  }
}

export function formOf(options) {
  return Object.entries(options).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((item) =>
      [name, typeof item === "object" ? JSON.stringify(item) : String(item)]));
}

// The route of a request, the fields of its form, and its body: chunks have their own names.
export const routeOf = (chunker, what) => `v1/${chunker ? `chunk/${chunker}` : "convert"}/${what}`;
export const fieldsOf = ({ options, chunker, target }) => [
  ...formOf(options).filter(([name]) => !chunker || name !== "to_formats").map(([name, value]) => [chunker ? `convert_${name}` : name, value]),
  ...(target.kind ? [["target_type", target.kind]] : []),
];
export function bodyOf(source, { options: { to_formats, ...options }, chunker, target }) {
  const body = chunker ? { sources: [source], convert_options: options } : { sources: [source], options: { to_formats, ...options } };
  return target.kind ? { ...body, target } : body;
}

// A form cannot name the address to put a result to.
export const needsJson = ({ target }) => target.kind === "put";

async function sendFile(file, asked) {
  if (needsJson(asked)) return sendJson({ kind: "file", filename: file.name, base64_string: await base64(file) }, asked);
  const form = new FormData();
  form.append("files", file);
  for (const [name, value] of fieldsOf(asked)) form.append(name, value);
  return ask(routeOf(asked.chunker, "file/async"), { method: "POST", body: form });
}

function sendJson(source, asked) {
  return ask(routeOf(asked.chunker, "source/async"), {
    method: "POST",
    body: JSON.stringify(bodyOf(source, asked)),
    headers: { "Content-Type": "application/json" },
  });
}

const base64 = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => failed(new Error(`${file.name} cannot be read.`));
  reader.readAsDataURL(file);
});

// The tasks of the view are in its address, so that a reload goes on with them.
function remember() {
  const ids = rows.value.map((row) => row.taskId).filter(Boolean);
  if (route.value.view === "convert") goTo("convert", ids);
}

export function resume(ids) {
  const known = new Set(rows.value.map((row) => row.taskId));
  const added = ids.filter((id) => !known.has(id)).map((taskId) => ({
    key: ++keys, name: "", taskId, status: null, error: "", cancelled: false,
  }));
  if (!added.length) return;
  rows.value = [...rows.value, ...added];
  selected.value ??= added[0].key;
  follow();
}

// Two tasks are followed by their events, the others by the list of tasks.
export function follow() {
  const open = rows.value.filter((row) => row.taskId && !finished(row));
  for (const row of open.filter((one) => !streaming.has(one.key)).slice(0, STREAMS - streaming.size)) {
    streaming.add(row.key);
    watch(row.key).finally(() => {
      streaming.delete(row.key);
      if (rows.value.some((one) => one.taskId && !finished(one))) follow();
    });
  }
  if (!polling && open.length) poll();
}

async function watch(key) {
  let lastId;
  while (find(key) && !finished(find(key))) {
    const { taskId } = find(key);
    try {
      await stream(`v1/tasks/${taskId}/events`, ({ data, id }) => {
        lastId = id;
        if (find(key)?.taskId === taskId) change(key, { status: data, away: false });
        if (data.task_meta?.num_failed && data.task_status === "success") explain(key);
      }, { lastId });
      if (find(key) && finished(find(key))) return;
    } catch (error) {
      if (settled(key, error)) return;
      change(key, { away: true });
    }
    await pause(1000);
  }
}

// A task succeeds even if its document fails: the reason is in its result.
async function explain(key) {
  const { taskId } = find(key);
  try {
    const reply = await ask(`v1/result/${taskId}`);
    if (!reply.headers.get("content-type").startsWith("application/json")) return;
    const { errors } = await reply.json();
    change(key, { complaint: errors.map((error) => error.error_message).join("\n") });
  } catch {
    // the result says it when it is looked at
  }
}

// Whether an error ends the following of a task.
function settled(key, error) {
  if (error.status === 404) {
    change(key, { error: "The server does not know this task any more. It keeps tasks for a while only, and those of before a restart only with a scratch_path." });
    return true;
  }
  if (error.status === 401) {
    change(key, { error: error.message });
    return true;
  }
  return false;
}

async function poll() {
  polling = true;
  try {
    for (;;) {
      await pause(POLL_MS);
      const open = rows.value.filter((row) => row.taskId && (!finished(row) || !row.name));
      if (!open.length) return;
      let listed;
      try {
        listed = (await getJson("v1/tasks?limit=1000")).tasks;
      } catch {
        continue; // the server is away: those that are streamed say so
      }
      const byId = new Map(listed.map((task) => [task.task_id, task]));
      for (const row of open) {
        const task = byId.get(row.taskId);
        if (task) {
          if (!streaming.has(row.key) && task.task_status === "success" && task.task_meta?.num_failed) explain(row.key);
          change(row.key, { status: streaming.has(row.key) ? row.status ?? task : task, name: row.name || task.names?.[0] || row.taskId, numPages: task.num_pages });
        } else if (!streaming.has(row.key)) {
          change(row.key, { error: "The server does not know this task any more." });
        }
      }
      follow();
    }
  } finally {
    polling = false;
  }
}

export async function cancel(key) {
  const { taskId } = find(key);
  change(key, { cancelled: true });
  try {
    await ask(`v1/tasks/${taskId}`, { method: "DELETE" });
  } catch (error) {
    change(key, { error: error.message });
  }
}

export function drop(key) {
  rows.value = rows.value.filter((row) => row.key !== key);
  if (selected.value === key) selected.value = rows.value[0]?.key ?? null;
  remember();
}
