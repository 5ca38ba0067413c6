// A line over time, with its axes, its unit, and the value under the pointer.

import { make, write } from "./dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BELOW] = [360, 120, 44, 20];

function draw(tag, attributes) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The next round number: 1, 2 or 5 times a power of ten.
export function roundUp(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].find((step) => step * power >= most * 0.999999) * power;
}

// Where the points are drawn, in the picture's own pixels.
export function placed(points, most) {
  const [start, end] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 1];
  const across = (WIDTH - LEFT - 8) / Math.max(1e-9, end - start);
  return points.map(([time, value]) => [LEFT + (time - start) * across, 8 + (1 - value / most) * (HEIGHT - BELOW - 8)]);
}

export function nearest(places, x) {
  return places.reduce((best, [at], number) => (Math.abs(at - x) < Math.abs(places[best][0] - x) ? number : best), 0);
}

export function chart({ title, unit, speak }) {
  const { decimal, clock, number } = speak;
  const line = draw("polyline", { class: "cb-line" });
  const dot = draw("circle", { class: "cb-dot", r: 3, visibility: "hidden" });
  const labels = ["most", "none", "from", "to"].map(() => draw("text", { class: "cb-tick" }));
  const [most, none, from, to] = labels;
  for (const [label, x, y, anchor] of [[most, LEFT - 4, 14, "end"], [none, LEFT - 4, HEIGHT - BELOW + 4, "end"], [from, LEFT, HEIGHT - 4, "start"], [to, WIDTH - 8, HEIGHT - 4, "end"]]) {
    label.setAttribute("x", x);
    label.setAttribute("y", y);
    label.setAttribute("text-anchor", anchor);
  }
  const axes = draw("path", { class: "cb-axis", d: `M${LEFT} 8V${HEIGHT - BELOW}H${WIDTH - 8}` });
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "cb-chart" });
  picture.append(axes, line, dot, ...labels);
  const caption = make("figcaption");
  const el = make("figure", { class: "cb-figure" }, caption, picture);
  let points = [];
  let places = [];
  const said = ([time, value]) => `${decimal(value, value < 10 ? 1 : 0)} ${unit} · ${clock(time)}`;

  function told(point) {
    write(caption, point ? `${title}: ${said(point)}` : title);
    picture.setAttribute("aria-label", caption.textContent);
  }

  picture.addEventListener("pointermove", (event) => {
    if (!points.length) return;
    const box = picture.getBoundingClientRect();
    const found = nearest(places, ((event.clientX - box.left) / box.width) * WIDTH);
    dot.setAttribute("cx", places[found][0]);
    dot.setAttribute("cy", places[found][1]);
    dot.setAttribute("visibility", "visible");
    told(points[found]);
  });
  picture.addEventListener("pointerleave", () => {
    dot.setAttribute("visibility", "hidden");
    told(points.at(-1));
  });

  return {
    el,
    show(now) {
      points = now;
      el.hidden = points.length < 2;
      if (el.hidden) return;
      const top = roundUp(Math.max(...points.map(([, value]) => value)));
      places = placed(points, top);
      line.setAttribute("points", places.map((place) => place.map((part) => part.toFixed(1)).join(",")).join(" "));
      write(most, top < 10 ? decimal(top, top < 1 ? 2 : 0) : number(top));
      write(none, "0");
      write(from, clock(points[0][0]));
      write(to, clock(points.at(-1)[0]));
      if (dot.getAttribute("visibility") === "hidden") told(points.at(-1));
    },
  };
}
