// A text and a button that copies it.

function render({ model, el }) {
  const text = document.createElement("pre");
  text.tabIndex = 0;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "cb-button";
  const draw = () => {
    text.textContent = model.get("code");
    button.textContent = model.get("label");
    el.hidden = !model.get("code");
  };
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(model.get("code"));
      button.textContent = model.get("copied");
    } catch {
      // Without the right to the clipboard the text is selected, so that a key copies it.
      getSelection().selectAllChildren(text);
    }
  });
  model.on("change:code", draw);
  el.classList.add("cb-panel");
  el.append(button, text);
  draw();
  return () => model.off("change:code", draw);
}

export default { render };
