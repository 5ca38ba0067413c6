// What is said, in the reader's language: texts from the catalogue, numbers as Intl writes them.

export function speaker(words, language) {
  const whole = new Intl.NumberFormat(language);
  const number = (value) => whole.format(value);
  const decimal = (value, digits = 1) =>
    new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  const shown = (value) => (typeof value === "number" ? number(value) : String(value ?? ""));

  // A name in braces is put in; a text that the catalogue does not have is shown as it is.
  function say(text, values = {}) {
    const found = Object.hasOwn(words, text) ? words[text] : text;
    return found.replace(/\{(\w+)\}/g, (all, name) => (Object.hasOwn(values, name) ? shown(values[name]) : all));
  }

  function clock(seconds) {
    const all = Math.max(0, Math.round(seconds));
    const pad = (part) => String(part).padStart(2, "0");
    const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
    return hours ? `${hours}:${pad(minutes)}:${pad(all % 60)}` : `${minutes}:${pad(all % 60)}`;
  }

  const percent = (share) => new Intl.NumberFormat(language, { style: "percent" }).format(share);
  const compare = new Intl.Collator(language, { numeric: true }).compare;
  const lower = (text) => text.toLocaleLowerCase(language);
  return { say, number, decimal, clock, percent, compare, lower, language };
}
