// What was typed into an answer, against what stood there: what of it is sent, what undoes it, what cannot be kept yet.

// A page ends its lines in one way, whatever the text that it was given does.
export const asTyped = (text) => text.replace(/\r\n?/g, "\n");

export const byName = (fields) => Object.fromEntries(fields.map(([name, text]) => [name, asTyped(text)]));

const others = (texts, than) => Object.fromEntries(Object.entries(texts).filter(([name, text]) => text !== than[name]));

export const same = (one, other) => ![others(one, other), others(other, one)].some((found) => Object.keys(found).length);

function kindOf(value) {
  if (Array.isArray(value)) return "list";
  return { object: value === null ? "text" : "object", boolean: "boolean", number: "number" }[typeof value] ?? "text";
}

// Whether a text is a value of the kind that its field has.
export function isOfKind(text, kind) {
  if (!kind || kind === "text") return true;
  try {
    return kindOf(JSON.parse(text)) === kind;
  } catch {
    return false;
  }
}

// The texts to be kept, where what is not of its kind stays as it was; and those that are not kept.
export function sifted(now, before, kinds) {
  const unkept = Object.fromEntries(Object.entries(others(now, before)).filter(([name, text]) => !isOfKind(text, kinds[name])));
  const kept = Object.entries(now).map(([name, text]) => [name, name in unkept ? before[name] : text]);
  return { kept: Object.fromEntries(kept), unkept };
}

// What an edit sends and what undoes it: the fields that are others, or null where the model's answer is back. Of an
// answer that is not shown as a whole the kernel alone can tell whether it is the model's.
export function sent(now, before, original, isWhole = true) {
  const output = (texts, than) => (isWhole && same(texts, original) ? null : others(texts, than));
  return { output: output(now, before), undone: output(before, now) };
}
