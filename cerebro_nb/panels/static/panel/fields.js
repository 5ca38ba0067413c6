// A field of the form: its label above, its unit inside, its error below.

import { choice, fresh, make, set, write } from "./dom.js";

function input(field) {
  const { shape, placeholder } = field;
  if (shape === "lines") return make("textarea", { rows: 3, placeholder });
  if (shape === "choice") return choice(field.choices);
  if (shape === "check") return make("input", { type: "checkbox" });
  return make("input", { type: "text", placeholder, autocomplete: "off", ...(shape === "number" ? { inputmode: "decimal" } : {}) });
}

// Several boxes, of which those without a tick are the value.
function boxes(field, changed) {
  const made = field.choices.map(([name, text]) => {
    const box = make("input", { type: "checkbox", onchange: changed });
    return { name, box, label: make("label", { class: "cb-check" }, box, text) };
  });
  const note = field.note ? [make("small", { text: field.note })] : [];
  const el = make("fieldset", { class: "cb-checks" }, make("legend", { text: field.title }), ...note, ...made.map((one) => one.label));
  return {
    el,
    get: () => made.filter((one) => !one.box.checked).map((one) => one.name),
    set(value) { for (const one of made) one.box.checked = !(value || []).includes(one.name); },
    refuse() {},
    focus: () => made[0].box.focus(),
  };
}

export function fieldOf(field, changed) {
  if (field.shape === "checks") return boxes(field, changed);
  const entry = input(field);
  const isCheck = field.shape === "check";
  entry.id = fresh("field");
  const error = make("small", { class: "cb-error", id: `${entry.id}-error`, role: "alert", hidden: true });
  const note = field.note ? make("small", { text: field.note, id: `${entry.id}-note` }) : null;
  const label = make("label", { for: entry.id, text: field.title });
  const unit = field.unit ? make("span", { class: "cb-unit", "aria-hidden": "true", text: field.unit }) : null;
  if (unit) set(entry, "aria-description", field.unit);
  entry.addEventListener(field.shape === "choice" || isCheck ? "change" : "input", changed);
  const inner = unit ? make("span", { class: "cb-with-unit" }, entry, unit) : entry;
  const el = isCheck
    ? make("div", { class: "cb-field", "data-field": field.name }, make("span", { class: "cb-check" }, entry, label), note, error)
    : make("div", { class: "cb-field", "data-field": field.name }, label, inner, error, note);
  if (note) set(entry, "aria-describedby", note.id);
  return {
    el,
    entry,
    get: () => (isCheck ? entry.checked : entry.value),
    set(value) {
      if (isCheck) entry.checked = Boolean(value);
      else if (entry.value !== String(value ?? "")) entry.value = value ?? "";
    },
    refuse(text) {
      error.hidden = !text;
      write(error, text ?? "");
      set(entry, "aria-invalid", text ? "true" : null);
      set(entry, "aria-describedby", text ? error.id : note?.id);
    },
    focus: () => entry.focus(),
  };
}
