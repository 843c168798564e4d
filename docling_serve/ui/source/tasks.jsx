// The Tasks view: what the server knows of the caller's tasks, the newest first; or one of them.
import { useEffect, useState } from "preact/hooks";
import { apiKey, ask, getJson, pause, stream } from "./api.js";
import { failed, progressOf, statusText } from "./convert.jsx";
import { capital, seconds } from "./format.js";
import { convert, sent } from "./jobs.js";
import { Result } from "./result.jsx";
import { connection, goTo, route } from "./store.js";

const REFRESH_MS = 3000;
const STATES = { "": "All", pending: "Waiting", started: "Running", success: "Done", failure: "Failed" };

export function Tasks() {
  const [id] = route.value.ids;
  return id ? <OneTask key={id} id={id} /> : <TaskList />;
}

function TaskList() {
  const [tasks, setTasks] = useState(null);
  const [state, setState] = useState("");
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let gone = false;
    (async () => {
      while (!gone) {
        try {
          const found = await getJson(`v1/tasks?limit=200${state ? `&state=${state}` : ""}`);
          if (gone) return;
          setTasks(found.tasks);
          setError("");
        } catch (problem) {
          if (!gone) setError(problem.message);
        }
        await pause(REFRESH_MS);
      }
    })();
    return () => { gone = true; };
  }, [state, turn, apiKey.value]);
  const act = async (work) => {
    try {
      await work();
    } catch (problem) {
      setError(problem.message);
    }
    setTurn(turn + 1);
  };
  const matching = (tasks || []).filter((task) => !text
    || [task.task_id, ...(task.names || [])].some((one) => one.toLowerCase().includes(text.toLowerCase())));
  return (
    <main id="main">
      <h2>Tasks</h2>
      <div class="filters">
        <label>State <select value={state} onChange={(e) => setState(e.currentTarget.value)}>{Object.entries(STATES).map(([value, title]) => <option value={value}>{title}</option>)}</select></label>
        <label>Name or id <input type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
      </div>
      {error && <p class="error" role="alert">{error}</p>}
      {tasks && !matching.length && <p class="quiet">{tasks.length ? "No task matches." : "The server knows no tasks."}</p>}
      {matching.length > 0 && (
        <div class="scroll"><table class="tasks">
          <thead><tr><th scope="col">Documents</th><th scope="col">State</th><th scope="col">Pages</th><th scope="col">Waited</th><th scope="col">Ran</th><th scope="col">Accepted</th><th scope="col">Actions</th></tr></thead>
          <tbody>{matching.map((task) => <TaskRow key={task.task_id} task={task} act={act} />)}</tbody>
        </table></div>
      )}
    </main>
  );
}

const named = (task) => task.names?.[0] ? `${task.names[0]}${task.num_docs > 1 ? ` and ${task.num_docs - 1} more` : ""}` : task.task_id;

function TaskRow({ task, act }) {
  const open = ["pending", "started"].includes(task.task_status);
  const row = { status: task };
  const again = sent.get(task.task_id);
  const name = named(task);
  const forget = () => act(() => ask(`v1/tasks/${task.task_id}`, { method: "DELETE" }));
  return (
    <tr class={failed(row) ? "failed" : ""}>
      <td data-title="Documents"><a href={`#/tasks/${task.task_id}`}>{name}</a></td>
      <td data-title="State">{open && <progress max="1" value={progressOf(task)} aria-label={`Progress of ${name}`} />} {statusText(row)}</td>
      <td data-title="Pages">{task.num_pages ?? "–"}</td>
      <td data-title="Waited">{seconds(task.waited_s)}</td>
      <td data-title="Ran">{seconds(task.converted_s)}</td>
      <td data-title="Accepted">{task.created_at ? new Date(task.created_at).toLocaleTimeString() : "–"}</td>
      <td data-title="Actions" class="acts">
        {open && <button type="button" class="plain" aria-label={`Cancel ${name}`} onClick={forget}>Cancel</button>}
        {task.task_status === "success" && <a href={`#/tasks/${task.task_id}`}>Result</a>}
        {!open && again && <button type="button" class="plain" aria-label={`Retry ${name}`} onClick={() => { location.hash = "#/convert"; convert([again.source], again.asked); }}>Retry</button>}
        {!open && <button type="button" class="plain" aria-label={`Delete ${name}`} onClick={forget}>Delete</button>}
      </td>
    </tr>
  );
}

function OneTask({ id }) {
  const [status, setStatus] = useState(null);
  const [error, setError] = useState("");
  const [names, setNames] = useState([]);
  useEffect(() => {
    const abort = new AbortController();
    (async () => {
      let lastId;
      let ended = false;
      while (!abort.signal.aborted && !ended) {
        try {
          await stream(`v1/tasks/${id}/events`, (event) => {
            lastId = event.id;
            ended = event.event === "end";
            setStatus(event.data);
            setError("");
          }, { signal: abort.signal, lastId });
        } catch (problem) {
          if (abort.signal.aborted) return;
          if (problem.status) {
            setError(problem.status === 404 ? "The server does not know this task. It keeps tasks for a while only, and those of before a restart only with a scratch_path." : problem.message);
            return;
          }
          setError("No connection to the server, trying again.");
        }
        if (!ended) await pause(1000);
      }
    })();
    getJson("v1/tasks?limit=1000").then((found) => setNames(found.tasks.find((task) => task.task_id === id)?.names || []), () => {});
    return () => abort.abort();
  }, [id, apiKey.value]);
  const row = { status, taskId: id };
  const open = ["pending", "started"].includes(status?.task_status);
  const cancel = async () => {
    await ask(`v1/tasks/${id}`, { method: "DELETE" }).catch((problem) => setError(problem.message));
    goTo("tasks");
  };
  connection.value;
  return (
    <main id="main">
      <p><a href="#/tasks">All tasks</a></p>
      <h2>{names[0] || `Task ${id}`}</h2>
      {names.length > 1 && <p class="quiet">{names.slice(1).join(", ")}</p>}
      {error && <p class="error" role="alert">{error}</p>}
      {status && <p class={failed(row) ? "error" : "state"} role="status">{capital(statusText(row))}</p>}
      {open && <><progress max="1" value={progressOf(status)} aria-label="Progress" /> <button type="button" class="plain" onClick={cancel}>Cancel</button></>}
      {status?.task_status === "success" && <Result taskId={id} name={names[0]} />}
    </main>
  );
}
