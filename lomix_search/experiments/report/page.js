"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const given = (figure) => JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const element = (name, text = "", kind = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // Light or dark, until the page is closed.
  document.getElementById("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });

  // Charts: a cross-hair that reads all lines at one place, or picks the nearest line. Arrow keys move it.
  for (const figure of all(".chart")) {
    const { axis, series } = given(figure);
    const area = figure.querySelector(".area"), hair = figure.querySelector(".hair"), out = figure.querySelector(".readout");
    const paths = all("path:not(.faint)", area), svg = area.querySelector("svg");
    const nearest = (places, x) => places.reduce((best, p, i) => (Math.abs(p - x) < Math.abs(places[best] - x) ? i : best), 0);
    const said = (line, i) => {
      const one = element("span"), mark = element("i");
      mark.style.background = line.colour;
      one.append(mark, `${line.name} `, element("b", String(line.y[i])));
      return one;
    };
    let at = null;
    const leave = () => {
      svg.classList.remove("picking", "reading");
      out.replaceChildren();
    };
    const read = (x, y) => {
      let shown = series;
      if (figure.dataset.pick === "line") {
        const far = series.map((line) => Math.abs(line.py[nearest(line.px, x)] - y));
        const one = far.indexOf(Math.min(...far));
        shown = [series[one]];
        svg.classList.add("picking");
        paths.forEach((path, i) => path.classList.toggle("on", i === one));
      }
      const i = nearest(shown[0].px, x);
      at = { line: shown[0], i, y };
      svg.classList.add("reading");
      hair.setAttribute("x1", shown[0].px[i]); hair.setAttribute("x2", shown[0].px[i]);
      out.replaceChildren(element("span", `${axis} ${shown[0].x[i]}`), ...shown.map((line) => said(line, nearest(line.px, x))));
    };
    const move = (event) => {
      const box = area.getBoundingClientRect();
      read((1000 * (event.clientX - box.left)) / box.width, (1000 * (event.clientY - box.top)) / box.height);
    };
    area.addEventListener("pointermove", move);
    area.addEventListener("pointerdown", move);
    area.addEventListener("pointerleave", leave);
    area.addEventListener("blur", leave);
    area.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const line = at ? at.line : series[0], last = line.px.length - 1;
      const i = at ? Math.min(last, Math.max(0, at.i + by)) : by > 0 ? 0 : last;
      read(line.px[i], figure.dataset.pick === "line" ? line.py[i] : 0);
    });
  }

  // The graph: whatever is nearest to the pointer is picked; the buttons go by rank.
  for (const figure of all(".graph")) {
    const maps = given(figure), svg = figure.querySelector("svg"), told = figure.querySelector(".told");
    const byRank = [...maps].sort((a, b) => a.rank - b.rank);
    const place = figure.querySelector(".steps output");
    const nodes = all(".nodes g", svg), edges = all(".edges path", svg);
    let current = byRank[0];
    const show = (map, lit = true) => {
      current = map;
      const stages = map.scales.map((scale) => `stage ${scale}`);
      const on = new Set([map.id, map.operator, ...stages]);
      svg.classList.toggle("picked", lit);
      nodes.forEach((node) => node.classList.toggle("on", on.has(node.dataset.id)));
      edges.forEach((edge) => {
        const { a, b } = edge.dataset;
        edge.classList.toggle("on", b === map.id || (b === map.operator && stages.includes(a)));
      });
      const rows = [["map", map.id], ["operator", map.operator === "original" ? "none: the stage’s own logits" : map.operator],
        ["made of", map.members.join(", ")], ["weight", `${map.weight}, ${map.share} of all`]];
      told.replaceChildren(...rows.flatMap(([name, value], i) => [element("dt", name), element("dd", value, i ? "" : "name")]));
      place.textContent = `rank ${map.rank} of ${maps.length}`;
    };
    const pick = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const far = (map) => Math.hypot(map.at[0] - point.x, map.at[1] - point.y);
      const nearest = maps.reduce((best, map) => (far(map) < far(best) ? map : best));
      if (far(nearest) < 90) show(nearest);
      else svg.classList.remove("picked");
    };
    svg.addEventListener("pointermove", pick);
    svg.addEventListener("pointerdown", pick);
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") svg.classList.remove("picked"); });
    all("button", figure).forEach((button) => button.addEventListener("click", () => {
      const next = byRank[byRank.indexOf(current) + Number(button.dataset.by)];
      if (next) show(next);
    }));
    show(current, false);
  }

  // Predictions: one slider for the slice, one for how strongly the overlay covers it.
  for (const figure of all(".viewer")) {
    const slices = given(figure), slider = figure.querySelector(".slice"), pictures = all("img", figure);
    const name = figure.querySelector(".name output"), note = figure.querySelector(".name small");
    if (slider) slider.addEventListener("input", () => {
      const i = Number(slider.value);
      pictures.forEach((picture) => { picture.src = slices[picture.dataset.layer][i]; });
      name.textContent = slices.names[i];
      note.textContent = slices.notes[i];
      slider.setAttribute("aria-valuetext", slices.names[i]);
    });
    const opacity = figure.querySelector(".opacity");
    opacity.addEventListener("input", () => figure.style.setProperty("--over", Number(opacity.value) / 100));
  }

  // Tables: a click on a title sorts by that column, a second one the other way round.
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((title, column) => {
      let way = 1;
      const sort = () => {
        const value = (row) => row.cells[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) && Number.isNaN(y) ? value(a).localeCompare(value(b)) : Number.isNaN(x) ? 1 : -1;
          return x - y;
        };
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => way * compare(a, b)));
        way = -way;
      };
      title.tabIndex = 0;
      title.addEventListener("click", sort);
      title.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  }
})();
