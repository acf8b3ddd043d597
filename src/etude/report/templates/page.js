"use strict";
(() => {
  const root = document.documentElement;

  // The theme: as the system, light or dark. Storage is refused to some pages that are opened as files.
  const names = { "": "auto", light: "light", dark: "dark" };
  const store = (value) => { try { localStorage.setItem("etude-theme", value); } catch { /* not kept */ } };
  const stored = () => { try { return localStorage.getItem("etude-theme") || ""; } catch { return ""; } };
  const switcher = document.querySelector("[data-theme-switch]");
  const show = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    switcher.querySelector("[data-theme-name]").textContent = names[theme];
  };
  show(stored() in names ? stored() : "");
  switcher.hidden = false;
  switcher.addEventListener("click", () => {
    const order = Object.keys(names);
    const next = order[(order.indexOf(root.dataset.theme || "") + 1) % order.length];
    store(next);
    show(next);
  });

  // Tables: a heading sorts by its column, numbers from the largest and words from the first letter.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.key ?? cell.textContent.trim();
    const value = Number(text);
    return text === "" || text === "–" ? null : Number.isNaN(value) ? text : value;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  const sort = (heading) => {
    const column = heading.cellIndex;
    const body = heading.closest("table").tBodies[0];
    const keyed = [...body.rows].map((row) => [key(row, column), row]);
    const numeric = keyed.some(([value]) => typeof value === "number");
    const now = heading.getAttribute("aria-sort");
    const down = now === "none" ? numeric : now === "ascending";
    // What is missing stays at the end, whichever way the others go.
    keyed.sort(([a], [b]) => a === null || b === null
      ? (a === null) - (b === null) : (down ? compare(b, a) : compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
    for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  for (const button of document.querySelectorAll("table[data-sortable] th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  // Filters: a field shows those rows of a part of the page that hold its words.
  for (const field of document.querySelectorAll("input[data-filter]")) {
    const rows = [...document.getElementById(field.dataset.filter).querySelectorAll("tbody tr")];
    const told = field.closest(".filter").querySelector("output");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        found += row.hidden ? 0 : 1;
      }
      told.textContent = words.length ? `${found} of ${rows.length} rows` : "";
    });
  }

  // On paper nothing can be opened, so that everything is.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

  // Charts: colours are the page's own variables, so that a theme needs no second drawing.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const tooltip = (handler, event, item, value) => {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const lines = typeof value === "object" ? Object.entries(value).map(([k, v]) => `${k}: ${v}`) : [String(value)];
    tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + height < innerHeight ? event.clientY + 18 : event.clientY - height - 10}px`;
  };
  const font = getComputedStyle(document.body).fontFamily;
  const axis = {
    domainColor: "var(--rule)", tickColor: "var(--rule)", gridColor: "var(--faint)", labelColor: "var(--soft)",
    titleColor: "var(--soft)", labelFont: font, titleFont: font, labelFontSize: 11.5, titleFontSize: 12,
    titleFontWeight: "normal", titlePadding: 8, labelPadding: 5, tickSize: 4,
  };
  const config = {
    background: null, font, padding: { left: 2, right: 12, top: 6, bottom: 2 }, view: { stroke: null }, axis,
    legend: {
      labelColor: "var(--ink)", titleColor: "var(--soft)", labelFont: font, titleFont: font, labelFontSize: 12,
      titleFontWeight: "normal", orient: "top", title: null, symbolType: "stroke", symbolStrokeWidth: 2.5,
      labelLimit: 220, columnPadding: 18, padding: 0, offset: 10,
    },
    header: { labelColor: "var(--ink)", labelFont: font, labelFontSize: 12, title: null },
    title: { color: "var(--ink)", font, fontSize: 13, anchor: "start", fontWeight: 600 },
    range: { category: ["accent", "second", "third", "fourth", "fifth", "sixth"].map((name) => `var(--${name})`) },
    mark: { color: "var(--accent)" }, line: { strokeWidth: 1.8 }, rule: { color: "var(--soft)" },
    text: { color: "var(--ink)", font, fontSize: 11.5 }, bar: { color: "var(--accent)" },
  };
  const draw = (place) => {
    const spec = JSON.parse(document.querySelector(`script[data-spec="${place.dataset.chart}"]`).textContent);
    return window.vegaEmbed(place, spec, {
      mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, hover: false, tooltip, config,
    }).catch((error) => {
      place.textContent = `This chart could not be drawn: ${error.message}`;
      place.classList.add("failed");
      console.error(error);
    });
  };
  const charts = [...document.querySelectorAll("[data-chart]")];
  Promise.all(charts.map(draw)).then(() => { root.dataset.ready = "yes"; });
})();
