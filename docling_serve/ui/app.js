// The page at /ui/: submits documents as tasks, follows them, and shows what came of them.
// It uses the public API only. Addresses are relative, so it works under any root path.

const api = new URL("../", location.href);
const KEY = "docling-serve-api-key";
const RECONNECT_AFTER_MS = 1000;
const POLL_WAIT_S = 5;
const WORKERS_EVERY_MS = 5000;

// The formats that an answer has a field for.
const FORMATS = {
  md: { title: "Markdown", field: "md_content", extension: "md", type: "text/markdown" },
  text: { title: "Text", field: "text_content", extension: "txt", type: "text/plain" },
  html: { title: "HTML", field: "html_content", extension: "html", type: "text/html" },
  json: { title: "JSON", field: "json_content", extension: "json", type: "application/json" },
  doctags: { title: "DocTags", field: "doctags_content", extension: "doctags", type: "text/plain" },
};

const $ = (id) => document.getElementById(id);
let current = null; // the task that is being followed: {id, ended}

// ---- asking the server ---------------------------------------------------------------------

function headers() {
  return $("key").value ? { "X-Api-Key": $("key").value } : {};
}

async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(new URL(path, api), { ...options, headers: { ...headers(), ...options.headers } });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (!reply.ok) throw new Error(await reason(reply));
  return reply;
}

async function reason(reply) {
  if (reply.status === 401) return "The server asks for an API key, and this is not it.";
  let detail;
  try {
    detail = (await reply.json()).detail;
  } catch {
    // not JSON
  }
  if (Array.isArray(detail)) {
    return detail.map((part) => `${part.loc.slice(1).join(".")}: ${part.msg}`).join("\n");
  }
  return detail || `The server answered ${reply.status} ${reply.statusText}.`;
}

// ---- what the server offers ----------------------------------------------------------------

async function readCapabilities() {
  let offered = null;
  try {
    offered = await (await ask("v1/capabilities")).json();
  } catch {
    // The endpoint may be closed: the form works without it.
  }
  const formats = Object.keys(FORMATS).filter((name) => !offered || offered.output_formats.includes(name));
  for (const name of formats) addFormat(name, name === "md");
  if (!offered) return;
  const version = offered.versions && offered.versions["docling-serve"];
  $("server").textContent = version ? `version ${version}` : "";
  for (const preset of offered.stages.ocr.presets) {
    $("ocr-preset").add(new Option(preset.name || preset.id, preset.id));
  }
  $("files-hint").textContent = limitsInWords(offered.limits);
  $("key-field").hidden = !offered.features.api_key_required;
}

function addFormat(name, checked) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", name: "to_formats", value: name, checked });
  label.append(box, ` ${FORMATS[name].title} `);
  $("formats").append(label);
}

function limitsInWords(limits) {
  const words = [`At most ${limits.max_sources_per_request} documents`];
  if (limits.max_file_size) words.push(`of ${bytes(limits.max_file_size)} each`);
  if (limits.max_num_pages) words.push(`and ${limits.max_num_pages} pages`);
  return limits.max_sources_per_request < 1e6 || words.length > 1 ? `${words.join(" ")}.` : "";
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count.toFixed(unit && count < 10 ? 1 : 0)} ${units[unit]}`;
}

// ---- submitting ----------------------------------------------------------------------------

function chosenOptions() {
  const formats = [...document.querySelectorAll("[name=to_formats]:checked")].map((box) => box.value);
  if (!formats.length) throw new Error("Choose at least one output format.");
  const options = { to_formats: formats, do_ocr: $("do-ocr").checked, force_ocr: $("force-ocr").checked };
  if ($("ocr-preset").value) options.ocr_preset = $("ocr-preset").value;
  const [first, last] = [$("first-page").value, $("last-page").value];
  if (first || last) {
    options.page_range = [Number(first || 1), Number(last || Number.MAX_SAFE_INTEGER)];
    if (options.page_range[0] > options.page_range[1]) {
      throw new Error("The last page comes before the first.");
    }
  }
  return options;
}

async function submit() {
  const options = chosenOptions();
  const files = [...$("files").files];
  const url = $("url").value.trim();
  if (Boolean(files.length) === Boolean(url)) {
    throw new Error("Choose files, or give one address.");
  }
  const reply = await (files.length ? submitFiles(files, options) : submitUrl(url, options));
  return (await reply.json()).task_id;
}

function submitFiles(files, options) {
  const form = new FormData();
  for (const file of files) form.append("files", file);
  for (const [name, value] of Object.entries(options)) {
    for (const item of Array.isArray(value) ? value : [value]) form.append(name, String(item));
  }
  return ask("v1/convert/file/async", { method: "POST", body: form });
}

function submitUrl(url, options) {
  const body = JSON.stringify({ sources: [{ kind: "http", url }], options });
  return ask("v1/convert/source/async", {
    method: "POST", body, headers: { "Content-Type": "application/json" },
  });
}

// ---- following a task ----------------------------------------------------------------------

function follow(task) {
  return new Promise((resolve, reject) => {
    const address = new URL(`v1/status/ws/${task.id}`, api);
    address.protocol = api.protocol.replace("http", "ws");
    if ($("key").value) address.searchParams.set("api_key", $("key").value);
    const socket = new WebSocket(address);
    let ended = false;
    const end = (settle, value) => {
      ended = true;
      settle(value);
    };
    socket.onmessage = (event) => {
      const told = JSON.parse(event.data);
      if (told.message === "error") end(reject, new Error(told.error));
      else if (told.task) {
        show(told.task);
        if (finished(told.task)) end(resolve, told.task);
      }
    };
    // A proxy may not pass websockets on: then ask again and again.
    socket.onclose = () => ended || poll(task).then(resolve, reject);
  });
}

async function poll(task) {
  for (let failures = 0; ; ) {
    try {
      const status = await (await ask(`v1/status/poll/${task.id}?wait=${POLL_WAIT_S}`)).json();
      failures = 0;
      show(status);
      if (finished(status)) return status;
    } catch (error) {
      failures += 1;
      if (task.cancelled || failures > 3) throw error;
      await new Promise((wake) => setTimeout(wake, RECONNECT_AFTER_MS));
    }
  }
}

const finished = (task) => ["success", "failure"].includes(task.task_status);

function show(task) {
  const meta = task.task_meta || {};
  const bar = $("progress");
  if (task.task_status === "pending") {
    bar.removeAttribute("value");
    say(task.task_position ? `Waiting, number ${task.task_position} in the queue.` : "Waiting.");
  } else if (task.task_status === "started") {
    const documents = meta.num_docs || 1;
    const pages = meta.total_pages ? meta.completed_pages / meta.total_pages : 0;
    if (meta.total_pages || meta.num_processed) bar.value = ((meta.num_processed || 0) + pages) / documents;
    else bar.removeAttribute("value");
    const words = [documents > 1 ? `Document ${meta.document || 1} of ${documents}` : "Converting"];
    if (meta.total_pages) words.push(`page ${meta.completed_pages} of ${meta.total_pages}`);
    say(`${words.join(", ")}.`);
  }
}

// Screen readers hear each text once.
function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

// ---- the result ----------------------------------------------------------------------------

async function showResult(task) {
  const reply = await ask(`v1/result/${task.id}`);
  $("result").hidden = false;
  if (!reply.headers.get("content-type").startsWith("application/json")) {
    offer(await reply.blob(), "converted_docs.zip");
    $("tabs").replaceChildren();
    $("panel").hidden = true;
    say("Done. Several documents come as one archive.");
    return;
  }
  const body = await reply.json();
  if (body.kind === "TaskFailureResult") throw new Error(body.failure.message);
  const complaints = (body.errors || []).map((error) => error.error_message);
  if (complaints.length) $("error").textContent = complaints.join("\n");
  const seconds = body.processing_time.toFixed(1);
  say(body.status === "success" ? `Done in ${seconds} s.` : `Ended after ${seconds} s: ${body.status}.`);
  showTabs(body.document);
}

function showTabs(told) {
  const there = Object.entries(FORMATS).filter(([, format]) => told[format.field] !== null && told[format.field] !== undefined);
  $("result").hidden = !there.length;
  $("panel").hidden = false;
  const tabs = there.map(([name, format], index) => {
    const tab = document.createElement("button");
    Object.assign(tab, { type: "button", id: `tab-${name}`, textContent: format.title });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "panel");
    tab.onclick = () => select(index);
    return tab;
  });
  const select = (chosen) => {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
    });
    $("panel").setAttribute("aria-labelledby", tabs[chosen].id);
    showContent(there[chosen][1], told);
  };
  $("tabs").replaceChildren(...tabs);
  $("tabs").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const chosen = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    tabs[chosen].focus();
    select(chosen);
  };
  if (tabs.length) select(0);
}

function showContent(format, told) {
  const content = told[format.field];
  const text = typeof content === "string" ? content : JSON.stringify(content, null, 2);
  if (format.field === "html_content") {
    const frame = document.createElement("iframe");
    frame.title = "HTML preview";
    frame.setAttribute("sandbox", ""); // no scripts, no forms, no access to this page
    frame.srcdoc = text;
    $("panel").replaceChildren(frame);
  } else {
    const block = document.createElement("pre");
    block.textContent = text;
    $("panel").replaceChildren(block);
  }
  const stem = (told.filename || "document").replace(/\.[^.]*$/, "");
  offer(new Blob([text], { type: format.type }), `${stem}.${format.extension}`);
}

function offer(blob, name) {
  URL.revokeObjectURL($("download").href);
  $("download").href = URL.createObjectURL(blob);
  $("download").download = name;
  $("download").textContent = `Download ${name} (${bytes(blob.size)})`;
}

// ---- workers and memory --------------------------------------------------------------------

async function watchWorkers() {
  // Without the key that it asks for, there is nothing to be had.
  const locked = !$("key-field").hidden && !$("key").value;
  if (document.visibilityState === "visible" && !locked) {
    try {
      const [memory, workers] = await Promise.all([
        fetch(new URL("v1/memory/stats", api), { headers: headers() }),
        fetch(new URL("v1/workers", api), { headers: headers() }),
      ]);
      // Closed by the settings for good; a wrong key may be put right.
      if (memory.status === 403) return;
      $("workers").hidden = !memory.ok;
      if (memory.ok) showWorkers(await memory.json(), workers.ok ? await workers.json() : null);
    } catch {
      // The server is away: the next look may find it.
    }
  }
  setTimeout(watchWorkers, WORKERS_EVERY_MS);
}

function showWorkers(memory, pool) {
  const workers = pool ? pool.workers : [];
  $("memory").textContent =
    `Server ${memory.rss} MiB, workers ${memory.workers_rss} MiB.` +
    (pool ? (workers.length ? "" : " No worker runs.") : " Conversions run in the server itself.");
  document.querySelector("#workers table").hidden = !workers.length;
  $("worker-rows").replaceChildren(...workers.map((worker) => {
    const row = document.createElement("tr");
    const cells = [
      worker.number, worker.state,
      worker.rss_bytes ? bytes(worker.rss_bytes) : "unknown",
      worker.vram_bytes ? bytes(worker.vram_bytes) : "none",
      worker.jobs_done,
    ];
    for (const text of cells) row.insertCell().textContent = text ?? "";
    return row;
  }));
}

// ---- the page ------------------------------------------------------------------------------

function working(isWorking) {
  $("submit").disabled = isWorking;
  $("cancel").hidden = !isWorking;
  $("cancel").disabled = true;
  $("progress-block").hidden = !isWorking;
  $("outcome").setAttribute("aria-busy", String(isWorking));
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  if (current) return;
  current = { id: null, cancelled: false };
  $("error").textContent = "";
  $("result").hidden = true;
  $("progress").removeAttribute("value");
  working(true);
  say("Sending.");
  try {
    current.id = await submit();
    $("cancel").disabled = false;
    const ended = await follow(current);
    if (ended.task_status === "failure") throw new Error(ended.error_message || "The task failed.");
    await showResult(current);
  } catch (error) {
    if (current.cancelled) say("Cancelled.");
    else {
      say("Not converted.");
      $("error").textContent = error.message;
    }
  } finally {
    current = null;
    working(false);
    $("submit").focus();
  }
};

$("cancel").onclick = async () => {
  if (!current || !current.id) return;
  current.cancelled = true;
  $("cancel").disabled = true;
  try {
    await ask(`v1/tasks/${current.id}`, { method: "DELETE" });
  } catch (error) {
    $("error").textContent = error.message;
  }
};

$("key").value = sessionStorage.getItem(KEY) || "";
$("key").onchange = () => sessionStorage.setItem(KEY, $("key").value);
// Before that, the form has no formats to choose from.
readCapabilities().then(() => {
  working(false);
  watchWorkers();
});
