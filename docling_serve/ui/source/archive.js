// Opens archives of results in the browser: the zip of a task, and DocLang archives (.dclx).
import { strFromU8, unzipSync } from "fflate";
import { readDocLang } from "./doclang.js";

const LIMIT = 1 << 29; // bytes after unpacking, all files together
const FIELDS = { md: "md", txt: "text", html: "html", json: "json", doctags: "doctags", dclg: "doclang", yaml: "yaml", vtt: "vtt", tex: "latex" };
const PICTURES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", gif: "image/gif" };
const DOCLANG = "document.xml";

const extension = (path) => path.split(".").at(-1).toLowerCase();
const withoutExtension = (path) => path.replace(/\.[^./]*$/, "");

export const isArchive = (name) => ["zip", "dclx"].includes(extension(name));

// The documents in an archive of results, each in the shape of a document in an answer, with the
// files it is made of. Throws an Error whose text is for the user.
export async function openArchive(blob, name) {
  const files = unpacked(new Uint8Array(await blob.arrayBuffer()));
  const found = Object.hasOwn(files, DOCLANG) ? [docLang(files, name)] : resultsIn(files);
  if (!found.length) throw new Error(`${name} holds no results.`);
  return found;
}

function unpacked(bytes) {
  let size = 0;
  let files;
  try {
    files = unzipSync(bytes, {
      filter: (file) => {
        size += file.originalSize;
        return size <= LIMIT && !file.name.endsWith("/");
      },
    });
  } catch {
    throw new Error("This is no archive, or a damaged one.");
  }
  if (size > LIMIT) throw new Error("The archive unpacks to more than this page opens (512 MiB).");
  return files;
}

function resultsIn(files) {
  const pictures = picturesIn(files);
  const documents = new Map();
  const order = [...Object.keys(FIELDS), "dclx"]; // of the tabs that show them
  const results = Object.entries(files).filter(([path]) => order.includes(extension(path)));
  results.sort(([a], [b]) => order.indexOf(extension(a)) - order.indexOf(extension(b)) || (a < b ? -1 : 1));
  for (const [path, content] of results) {
    const kind = extension(path);
    const stem = withoutExtension(path);
    if (!documents.has(stem)) documents.set(stem, { name: stem, files: [], document: { filename: stem } });
    const entry = documents.get(stem);
    entry.files.push({ name: path.split("/").at(-1), blob: new Blob([content]) });
    if (kind !== "dclx") entry.document[`${FIELDS[kind]}_content`] = withPictures(kind, strFromU8(content), pictures);
  }
  for (const [path, content] of Object.entries(files)) {
    if (extension(path) === "dclx") addDocLang(documents.get(withoutExtension(path)).document, content);
  }
  return [...documents.values()];
}

// A file of the archive is named in a result by its path there: the page shows its content.
function withPictures(kind, text, pictures) {
  if (!["md", "html", "json"].includes(kind)) return text;
  const whole = Object.entries(pictures).reduce((now, [path, address]) => now.replaceAll(path, address), text);
  if (kind !== "json") return whole;
  try {
    return JSON.parse(whole);
  } catch {
    return text;
  }
}

function picturesIn(files) {
  return Object.fromEntries(Object.entries(files).filter(([path]) => Object.hasOwn(PICTURES, extension(path))).map(([path, content]) => [path, dataUrl(path, content)]));
}

function dataUrl(path, content) {
  let text = "";
  for (let at = 0; at < content.length; at += 0x8000) text += String.fromCharCode(...content.subarray(at, at + 0x8000));
  return `data:${PICTURES[extension(path)]};base64,${btoa(text)}`;
}

function addDocLang(document, content) {
  try {
    const inner = docLang(unpacked(content), "").document;
    document.html_content ??= inner.html_content;
    document.doclang_content ??= inner.doclang_content;
    document.laid_out = inner.laid_out;
  } catch {
    // the other formats are shown, and the file can be downloaded
  }
}

function docLang(files, name) {
  const pictures = picturesIn(files);
  const pages = {};
  for (const [path, address] of Object.entries(pictures)) {
    const number = path.match(/^pages\/(\d+)\.\w+$/)?.[1];
    if (number) pages[number] = address;
  }
  const xml = strFromU8(files[DOCLANG]);
  const { html, document } = readDocLang(xml, { picture: (path) => pictures[path], pages });
  return {
    name: withoutExtension(name), files: [],
    document: { filename: withoutExtension(name), html_content: html, doclang_content: xml, laid_out: document },
  };
}
