// One banner where the kernel is gone: what is shown stays readable, and nothing pretends to work.

import { make } from "./dom.js";

export function goneText(run, { say }) {
  const done = (run?.ok ?? 0) + (run?.failed ?? 0);
  const kept = run?.task && run.total ? ` ${say("{done} of {total} are saved.", { done, total: run.total })}` : "";
  return say("The kernel is gone. Run the cell again to go on.") + kept;
}

export function kernelGone({ speak, model, onGone, root, place }) {
  const el = make("p", { class: "cb-gone", role: "alert", hidden: true });
  const show = () => {
    if (!el.hidden || model.comm_live) return;
    el.textContent = goneText(model.get("run_shown"), speak);
    el.hidden = false;
    for (const one of root.querySelectorAll("button, input, select, textarea")) one.disabled = true;
    onGone();
  };
  // A notebook may have been opened with what was saved of the panel, and nobody behind it: ipywidgets marks such a place.
  const look = () => place.classList.contains("jupyter-widgets-disconnected") && show();
  model.on("comm:close", show);
  model.on("comm_live_update", show);
  return {
    el,
    look,
    stop() {
      model.off("comm:close", show);
      model.off("comm_live_update", show);
    },
  };
}
