// The same request as code, for those who go on from the page.
import { base } from "./api.js";
import { bodyOf, fieldsOf, needsJson, routeOf } from "./jobs.js";

const quote = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;
const python = (value) => JSON.stringify(value).replace(/\btrue\b/g, "True").replace(/\bfalse\b/g, "False").replace(/\bnull\b/g, "None");
const CONTENT = "CONTENT OF THE FILE"; // stands for it in the JSON body

export function snippets(sources, asked, withKey) {
  const url = sources.find((source) => typeof source === "string");
  const names = sources.filter((source) => typeof source !== "string").map((file) => file.name);
  const files = names.length || url ? names : ["document.pdf"];
  const request = { files, asked, at: `${base}${routeOf(asked.chunker, url || needsJson(asked) ? "source" : "file")}` };
  request.shown = { zip: "archive", put: "counts", presigned_url: "counts" }[asked.target.kind] || (asked.chunker ? "chunks" : "document");
  if (url || needsJson(asked)) request.body = bodyOf(url ? { kind: "http", url } : { kind: "file", filename: files[0], base64_string: CONTENT }, asked);
  return { curl: curl(request, withKey), Python: inPython(request, withKey), JavaScript: inJavaScript(request, withKey) };
}

const hasContent = (body) => body?.sources[0].base64_string === CONTENT;

function curl({ at, files, asked, body, shown }, withKey) {
  const key = withKey ? ` \\\n  -H "X-Api-Key: $DOCLING_SERVE_API_KEY"` : "";
  const start = `curl ${quote(at)}${shown === "archive" ? " -o results.zip" : ""}${key}`;
  if (!body) return `${start}${files.map((name) => ` \\\n  -F ${quote(`files=@${name}`)}`).join("")}${fieldsOf(asked).map(([k, v]) => ` \\\n  -F ${quote(`${k}=${v}`)}`).join("")}`;
  const json = `${start} \\\n  -H 'Content-Type: application/json'`;
  if (!hasContent(body)) return `${json} \\\n  -d ${quote(JSON.stringify(body))}`;
  const text = JSON.stringify(body).replace(/[\\$`]/g, "\\$&").replace(CONTENT, `$(base64 -w 0 ${quote(files[0])})`);
  return `${json} \\\n  -d @- <<END\n${text}\nEND`;
}

function inPython({ at, files, asked, body, shown }, withKey) {
  const data = {};
  for (const [name, value] of fieldsOf(asked)) data[name] = name in data ? [data[name], value].flat() : value;
  const key = withKey ? `\n    headers={"X-Api-Key": os.environ["DOCLING_SERVE_API_KEY"]},` : "";
  const used = [hasContent(body) && "base64", withKey && "os"].filter(Boolean).map((name) => `import ${name}\n`).join("");
  const content = `base64.b64encode(open(${python(files[0] || "")}, "rb").read()).decode()`;
  const what = body ? `json=${python(body).replace(`"${CONTENT}"`, content)}`
    : `files=[${files.map((name) => `("files", open(${python(name)}, "rb"))`).join(", ")}],\n    data=${python(data)}`;
  const ending = { archive: `open("results.zip", "wb").write(reply.raise_for_status().content)`, counts: "print(reply.raise_for_status().json())" }[shown]
    || `print(reply.raise_for_status().json()["${shown}"])`;
  return `${used}${used && "\n"}import httpx\n\nreply = httpx.post(\n    ${python(at)},${key}\n    ${what},\n    timeout=None,\n)\n${ending}`;
}

function inJavaScript({ at, asked, body, shown }, withKey) {
  const key = withKey ? `"X-Api-Key": key` : "";
  const ending = { archive: "const archive = await reply.blob();", counts: "console.log(await reply.json());" }[shown] || `console.log((await reply.json()).${shown});`;
  if (body) {
    const content = `new Uint8Array(await input.files[0].arrayBuffer()).toBase64()`;
    return `const reply = await fetch(${JSON.stringify(at)}, {\n  method: "POST",\n  headers: { "Content-Type": "application/json"${key && `, ${key}`} },\n  body: JSON.stringify(${JSON.stringify(body).replace(`"${CONTENT}"`, content)}),\n});\n${ending}`;
  }
  return `const form = new FormData();\nfor (const file of input.files) form.append("files", file);\n${fieldsOf(asked).map(([k, v]) => `form.append(${JSON.stringify(k)}, ${JSON.stringify(v)});\n`).join("")}const reply = await fetch(${JSON.stringify(at)}, {\n  method: "POST",\n${key && `  headers: { ${key} },\n`}  body: form,\n});\n${ending}`;
}
