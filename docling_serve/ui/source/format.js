// Figures and times in words.
export function bytes(count) {
  if (count === null || count === undefined) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count.toFixed(unit > 1 && count < 10 ? 1 : 0)} ${units[unit]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${value.toFixed(0)} s`;
  if (value < 7200) return `${(value / 60).toFixed(0)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

export const stem = (name) => (name || "document").replace(/\.[^.]*$/, "");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const words = (name) => capital(name.replaceAll("_", " ").replace(/\b(ocr|pdf|md|vlm)\b/gi, (w) => w.toUpperCase()));
