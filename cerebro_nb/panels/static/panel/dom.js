// Elements, without a framework. What a model wrote goes into the page as text, never as HTML.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

// What is the same already is left alone, so that nothing is read out twice and no selection is lost.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function set(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

let made = 0;

export const fresh = (name) => `cerebro-${name}-${++made}`;

export function labelled(label, input, note = "") {
  input.id ||= fresh("field");
  const field = make("div", { class: "cb-field" }, make("label", { for: input.id, text: label }), input);
  if (note) field.append(make("small", { text: note }));
  return field;
}

export function choice(options, attributes = {}) {
  const select = make("select", attributes);
  for (const [value, text] of options) select.append(make("option", { value, text }));
  return select;
}

export const isTyping = (target) =>
  target instanceof HTMLElement && (target.matches("textarea, select, input:not([type=checkbox])") || target.isContentEditable);
