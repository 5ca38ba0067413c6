// What was changed in a text, word by word.

const MOST = 1_500; // words of a side; beyond it the whole is shown as changed

const pieces = (text) => text.match(/\S+\s*|\s+/gu) ?? [];

export function changes(before, after) {
  const [one, other] = [pieces(before), pieces(after)];
  if (one.length > MOST || other.length > MOST) return joined([["gone", before], ["new", after]]);
  const width = other.length + 1;
  const longest = new Uint16Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        one[i] === other[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && one[i] === other[j]) {
      found.push(["same", one[i++]]);
      j++;
    } else if (j >= other.length || (i < one.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      found.push(["gone", one[i++]]);
    } else {
      found.push(["new", other[j++]]);
    }
  }
  return joined(found);
}

function joined(parts) {
  const found = [];
  for (const [kind, text] of parts) {
    if (!text) continue;
    if (found.at(-1)?.[0] === kind) found.at(-1)[1] += text;
    else found.push([kind, text]);
  }
  return found;
}

// A quote in its text, whatever white space lies between its words.
export function marked(text, quote) {
  const words = quote.trim().split(/\s+/).filter(Boolean);
  if (!words.length) return [["same", text]];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const found = new RegExp(escaped.join("\\s+"), "u").exec(text);
  if (!found) return [["same", text]];
  const end = found.index + found[0].length;
  return [["same", text.slice(0, found.index)], ["quote", found[0]], ["same", text.slice(end)]].filter(([, part]) => part);
}
