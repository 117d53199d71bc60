// The table of all hypotheses: filtered, sorted and paged here, so that thousands of rows cost nothing until they are looked at.

const PAGE = 25;
const ORDER = Object.keys(VIEWS);
const COLUMNS = [
  { key: "title", head: "Concept", of: (item) => item.concept.title.toLowerCase() },
  { key: "view", head: "View", of: (item) => ORDER.indexOf(item.view) },
  { key: "effect", head: "Effect", of: (item) => item.effect.estimate, number: true, falls: true },
  { key: "raw", head: "Raw", of: (item) => item.raw.estimate, number: true, falls: true },
  { key: "q", head: "q", of: (item) => item.effect.q, number: true },
  { key: "inside", head: "Pairs", of: (item) => item.inside, number: true, falls: true },
  { key: "rank", head: "Rank", of: (item) => item.rank, number: true },
];

const state = { find: "", view: "", way: "", findings: items.some((item) => item.finding), key: "", down: false, page: 0 };

function matching() {
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = items.filter(
    (item) =>
      (!state.findings || item.finding) &&
      (!state.view || item.view === state.view) &&
      (!state.way || state.way === item.way) &&
      words.every((word) => item.haystack.includes(word)),
  );
  const column = COLUMNS.find(({ key }) => key === state.key);
  if (!column) return found;
  const turn = state.down ? -1 : 1;
  return found.sort((a, b) => {
    const [left, right] = [column.of(a), column.of(b)];
    return left < right ? -turn : left > right ? turn : 0;
  });
}

function cells(item) {
  const weak = item.effect.reason ? "not tested" : null;
  return [
    VIEWS[item.view],
    weak || signed(item.effect.estimate),
    item.raw.reason ? "not tested" : signed(item.raw.estimate),
    probability(item.effect.q),
    count(item.inside),
    count(item.rank),
  ];
}

function tableRow(item) {
  const head = h("th", { scope: "row", role: "rowheader" }, arrow(item), " ", opener(item), place(item));
  const rest = cells(item).map((text, place) => {
    const column = COLUMNS[place + 1];
    return h("td", { role: "cell", class: column.number ? "num" : null, "data-label": column.head }, text);
  });
  return h("tr", { role: "row", class: item.finding ? null : "weak" }, head, rest);
}

function choice(label, options, change, attributes) {
  const select = h("select", null, options.map(([value, text]) => h("option", { value }, text)));
  select.addEventListener("change", () => change(select.value));
  return h("label", attributes, label, select);
}

function allHypotheses(target) {
  if (!items.length) {
    target.replaceChildren(h("p", { class: "empty" }, "No hypothesis was kept. The sections above say why."));
    return;
  }
  const head = h("thead", { role: "rowgroup" });
  const body = h("tbody", { role: "rowgroup" });
  const status = h("p", { role: "status", class: "note" });
  const before = h("button", { type: "button", class: "button" }, "Previous");
  const after = h("button", { type: "button", class: "button" }, "Next");
  const where = h("span");

  function show(change) {
    Object.assign(state, { page: 0 }, change);
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const shown = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
    body.replaceChildren(...shown.map(tableRow));
    body.querySelectorAll("a").forEach((link, place) => (link.tabIndex = place ? -1 : 0));
    status.textContent = found.length
      ? `${plural(found.length, "hypothesis", "hypotheses")}${found.length < items.length ? ` of ${count(items.length)}` : ""}`
      : "Nothing matches. Clear the search, or show more than findings.";
    where.textContent = `Page ${count(state.page + 1)} of ${count(pages)}`;
    before.disabled = state.page === 0;
    after.disabled = state.page >= pages - 1;
    [...head.querySelectorAll("th")].forEach((cell, place) => {
      const active = COLUMNS[place].key === state.key;
      if (active) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.querySelector("span").textContent = active ? (state.down ? " ↓" : " ↑") : "";
    });
  }

  const sort = (column) => show({ key: column.key, down: state.key === column.key ? !state.down : Boolean(column.falls) });
  head.append(
    h(
      "tr",
      { role: "row" },
      COLUMNS.map((column) => {
        const button = h("button", { type: "button" }, column.head, h("span", { "aria-hidden": "true" }));
        button.addEventListener("click", () => sort(column));
        return h("th", { scope: "col", role: "columnheader", class: column.number ? "num" : null }, button);
      }),
    ),
  );

  const find = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  find.addEventListener("input", () => show({ find: find.value }));
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    find.value = "";
    show({ find: "" });
  });
  const only = h("input", { type: "checkbox" });
  only.checked = state.findings;
  only.addEventListener("change", () => show({ findings: only.checked }));
  const present = ORDER.filter((view) => items.some((item) => item.view === view));
  const filters = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Hypotheses" },
    h("label", null, "Find a concept or a condition", find),
    choice("View", [["", "All views"], ...present.map((view) => [view, VIEWS[view]])], (view) => show({ view })),
    choice("Direction", [["", "More and less"], ["more", "More"], ["less", "Less"]], (way) => show({ way })),
    choice("Sort by", [["", "View and rank"], ...COLUMNS.map((column) => [column.key, column.head])], (key) => {
      const column = COLUMNS.find((one) => one.key === key);
      show({ key, down: Boolean(column && column.falls) });
    }, { class: "sorter" }),
    h("label", { class: "check" }, only, "Findings only"),
  );
  filters.addEventListener("submit", (event) => event.preventDefault());
  before.addEventListener("click", () => show({ page: state.page - 1 }));
  after.addEventListener("click", () => show({ page: state.page + 1 }));
  body.addEventListener("keydown", (event) => walk(event, body, (page) => show({ page })));

  const table = h("table", { class: "all", role: "table" }, h("caption", { class: "sr" }, "Hypotheses"), head, body);
  target.replaceChildren(filters, status, table, h("div", { class: "pager" }, before, after, where));
  show({});
}

// Up and down walk the rows, Home and End go to the page's ends, Page Up and Page Down turn pages.
function walk(event, body, turn) {
  const links = [...body.querySelectorAll("a.open")];
  const at = links.indexOf(event.target);
  if (at < 0) return;
  const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 };
  if (event.key === "PageDown" || event.key === "PageUp") {
    turn(state.page + (event.key === "PageDown" ? 1 : -1));
    focusRow([...body.querySelectorAll("a.open")], 0);
  } else if (event.key in moves) {
    focusRow(links, moves[event.key]);
  } else {
    return;
  }
  event.preventDefault();
}

function focusRow(links, index) {
  const next = links[Math.min(Math.max(index, 0), links.length - 1)];
  links.forEach((link) => (link.tabIndex = -1));
  next.tabIndex = 0;
  next.focus();
}
