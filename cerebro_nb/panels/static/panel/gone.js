// One banner where the kernel is gone: what is shown stays readable, and nothing pretends to work.

import { make } from "./dom.js";

export function kernelGone({ speak, model }) {
  const { say } = speak;
  const el = make("p", { class: "cb-gone", role: "alert", hidden: true });
  const show = () => {
    const { done, total } = model.get("snapshot")?.saved ?? {};
    const kept = total ? ` ${say("{done} of {total} are saved.", { done, total })}` : "";
    el.textContent = say("The kernel is gone. Run the cell again to go on.") + kept;
    el.hidden = false;
  };
  model.on("comm:close", show);
  model.on("comm_live_update", show);
  return {
    el,
    stop() {
      model.off("comm:close", show);
      model.off("comm_live_update", show);
    },
  };
}
