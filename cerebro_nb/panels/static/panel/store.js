// What a reader chose of the looks of a table, kept by the browser; where it keeps nothing, for as long as the page lives.

export function storage(name, place) {
  const key = `cerebro.${name}`;
  let values = {};
  try {
    place ??= globalThis.localStorage; // in a sandboxed frame already the asking is refused
    values = JSON.parse(place.getItem(key)) ?? {};
  } catch {
    values = {};
  }
  return {
    kept: (part, otherwise) => values[part] ?? otherwise,
    keep(part, value) {
      values = { ...values, [part]: value };
      try {
        place.setItem(key, JSON.stringify(values));
      } catch {
        // A page without storage forgets it with the page.
      }
    },
  };
}
