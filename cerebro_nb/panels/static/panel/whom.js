// Who answers: a chip that opens what can be chosen of it, and what the server has.

import { make, set, write } from "./dom.js";

export function chipText(values, models, { say }) {
  const titles = { ollama: "Ollama", openai: "OpenAI", embedded: say("embedded model") };
  const loaded = models.find(([, , isLoaded]) => isLoaded)?.[0];
  const model = values.model || loaded || "";
  const addresses = (values.base_url || "").split(",").map((part) => part.trim()).filter(Boolean);
  const where = addresses.length > 1 ? say("{count} servers", { count: addresses.length }) : addresses[0]?.replace(/^https?:\/\//, "");
  return [model, where || titles[values.backend]].filter(Boolean).join(" · ") || say("whatever answers");
}

export function sizeText(bytes, { decimal, number }) {
  if (!bytes) return "";
  return bytes >= 1e9 ? `${decimal(bytes / 1e9, 1)} GB` : `${number(Math.round(bytes / 1e6))} MB`;
}

export function whom({ speak, send, values, change, fill }) {
  const { say } = speak;
  const fields = {};
  let told = null;

  const name = make("summary", { class: "cb-button cb-chip-model" });
  const place = make("div", { class: "cb-whom-fields" });
  const test = make("button", { type: "button", class: "cb-button", text: say("List models"), onclick: look });
  const said = make("small", { role: "status" });
  const list = make("ul", { class: "cb-models", "aria-label": say("Models") });
  const box = make("div", { class: "cb-menu cb-whom" }, place, make("div", { class: "cb-bar" }, test, said), list);
  const el = make("details", { class: "cb-columns", ontoggle: () => el.open && !told?.models.kind && look() }, name, box);
  el.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !el.open) return;
    event.stopPropagation();
    el.open = false;
    name.focus();
  });
  const outside = (event) => { if (el.open && !event.composedPath().includes(el)) el.open = false; };
  document.addEventListener("pointerdown", outside);

  function look() {
    write(said, say("Asking…"));
    send({ do: "models", form: values() });
  }

  // What is listed is of the server that was asked, and of no other.
  const isOfNow = () => {
    const now = values();
    return told && told.models.whom[0] === (now.backend ?? "") && told.models.whom[1] === (now.base_url ?? "").trim();
  };

  function drawn() {
    if (!told) return;
    const fits = isOfNow();
    const now = values();
    const models = fits ? told.models.models : [];
    write(name, chipText(now, models, speak));
    set(name, "aria-label", say("Who answers: {name}", { name: name.textContent }));
    if (!fits) write(said, "");
    list.hidden = !models.length;
    const key = JSON.stringify([models, now.model]);
    if (key === list.dataset.drawn) return;
    list.dataset.drawn = key;
    list.replaceChildren(...models.map(([model, bytes, isLoaded]) => {
      const facts = [sizeText(bytes, speak), isLoaded ? say("loaded") : ""].filter(Boolean).join(", ");
      const pick = make("button", { type: "button", class: "cb-button cb-quiet cb-model", "aria-pressed": String(now.model === model), onclick: () => fill({ model: now.model === model ? "" : model }) }, make("span", { text: model, dir: "auto" }), make("small", { text: facts }));
      return make("li", {}, pick);
    }));
  }

  return {
    el,
    take(field, made) {
      fields[field] = made;
      place.append(made.el);
    },
    shown(form) {
      const before = told;
      told = form;
      drawn();
      if (before && JSON.stringify(before.models) !== JSON.stringify(form.models)) write(said, form.models.error || (form.models.models.length ? "" : say("no model")));
    },
    drawn,
    changed: change,
    stop: () => document.removeEventListener("pointerdown", outside),
  };
}
