// The table of all hypotheses: filtered, sorted and paged here, so that thousands of rows cost nothing until they are looked at.

const PAGE = 25;
const ORDER = Object.keys(VIEWS);
// What not every audit knows is a column where something has it. `scaled`: sorted within each scale, not across.
const COLUMNS = [
  { key: "title", head: "Concept", of: (item) => item.concept.title.toLowerCase() },
  { key: "view", head: "View", of: (item) => ORDER.indexOf(item.view), show: (item) => VIEWS[item.view] },
  { key: "effect", head: "Effect", of: (item) => item.effect.estimate, number: true, falls: true, scaled: true, show: (item) => shownEffect(item, item.effect) },
  { key: "raw", head: "Raw", of: (item) => item.raw.estimate, number: true, falls: true, scaled: true, show: (item) => shownEffect(item, item.raw) },
  { key: "q", head: "q", of: (item) => item.effect.q, number: true, show: (item) => probability(item.effect.q) },
  { key: "verdict", head: "Verdict", of: (item) => item.verdict, falls: true, known: (item) => item.verdict > 0, show: (item) => VERDICTS[item.verdict].split(" ")[0] },
  { key: "carried", head: "Carried by", of: (item) => item.carried ?? 2, number: true, known: (item) => item.carried !== null, show: (item) => percent(item.carried) },
  { key: "odds", head: "Log-odds, nats", of: (item) => item.logOdds ?? -1e9, number: true, falls: true, known: (item) => item.logOdds !== null, show: (item) => signed(item.logOdds) },
  { key: "inside", head: "Pairs", of: (item) => item.inside, number: true, falls: true, show: (item) => count(item.inside) },
  { key: "rank", head: "Rank", of: (item) => item.rank, number: true, show: (item) => count(item.rank) },
].filter(({ known }) => !known || items.some(known));
const FAMILIES = [...new Set(items.map((item) => item.concept.family))];
const FEW = [["0.05", "5% of the pairs or fewer"], ["0.1", "10% or fewer"], ["0.25", "25% or fewer"]];

const shownEffect = (item, effect) => (effect.reason ? "not tested" : amount(item, effect));

const state = { find: "", view: "", way: "", family: "", verdict: "", few: "", findings: items.some((item) => item.finding), key: "", down: false, page: 0 };

function matching() {
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = items.filter(
    (item) =>
      (!state.findings || item.finding) &&
      (!state.view || item.view === state.view) &&
      (!state.way || state.way === item.way) &&
      (!state.family || state.family === item.concept.family) &&
      (!state.verdict || state.verdict === String(item.verdict)) &&
      (!state.few || (item.carried !== null && item.carried <= Number(state.few))) &&
      words.every((word) => item.haystack.includes(word)),
  );
  const column = COLUMNS.find(({ key }) => key === state.key);
  if (!column) return found;
  const turn = state.down ? -1 : 1;
  return found.sort((a, b) => {
    if (column.scaled && unitOf(a) !== unitOf(b)) return unitOf(a) < unitOf(b) ? -1 : 1;
    const [left, right] = [column.of(a), column.of(b)];
    return left < right ? -turn : left > right ? turn : 0;
  });
}

function tableRow(item) {
  const head = h("th", { scope: "row", role: "rowheader" }, arrow(item), " ", opener(item), place(item));
  const rest = COLUMNS.slice(1).map((column) => {
    const known = !column.known || column.known(item);
    return h("td", { role: "cell", class: shape(column), "data-label": known ? column.head : null }, known ? column.show(item) : "");
  });
  return h("tr", { role: "row", class: item.finding ? null : "weak" }, head, rest);
}

const shape = (column) => [column.number && "num", column.known && "extra"].filter(Boolean).join(" ") || null;

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
        return h("th", { scope: "col", role: "columnheader", class: shape(column) }, button);
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
    FAMILIES.length > 1 ? choice("Family", [["", "All families"], ...FAMILIES.map((one) => [one, one])], (family) => show({ family })) : null,
    items.some((item) => item.verdict)
      ? choice("Verdict", [["", "Any"], ...VERDICTS.map((one, place) => [String(place), one]).slice(1)], (verdict) => show({ verdict }))
      : null,
    items.some((item) => item.carried !== null)
      ? choice("Half of it carried by", [["", "Any share"], ...FEW], (few) => show({ few }))
      : null,
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

  const table = h("table", { class: COLUMNS.some(({ known }) => known) ? "all wide" : "all", role: "table" }, h("caption", { class: "sr" }, "Hypotheses"), head, body);
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
