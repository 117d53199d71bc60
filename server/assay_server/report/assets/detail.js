// A hypothesis on a sheet of its own: its statement, its numbers, and the pairs behind it.

const LEVELS = 3;
const dialog = document.getElementById("detail");

// Text with the stretches marked on which the concept fires. Offsets are in code points, strings here in UTF-16.
function marked(text, marks, top) {
  const points = Array.from(text);
  const parts = [];
  let done = 0;
  for (const [start, end, value] of marks) {
    const from = Math.max(start, done);
    const to = Math.min(end, points.length);
    if (from >= to) continue;
    parts.push(points.slice(done, from).join(""));
    const strength = Math.min(LEVELS, Math.max(1, Math.ceil((LEVELS * value) / top)));
    parts.push(h("mark", { class: "s" + strength, title: "activation " + value }, points.slice(from, to).join("")));
    done = to;
  }
  parts.push(points.slice(done).join(""));
  return parts;
}

function passage(title, [text, length], marks, top) {
  const shown = Array.from(text).length;
  const beyond = length > shown ? h("p", { class: "note" }, `Clipped: the first ${count(shown)} of ${count(length)} characters are shown.`) : null;
  const body = text === "" ? [h("em", null, "(empty)")] : marked(text, marks, top);
  return [h("h5", null, title), h("p", { class: "text", dir: "auto" }, body), beyond];
}

function pairCard([row, disparity, chosen, rejected]) {
  const [id, earlier, turns, chosenText, rejectedText] = block.pairs[row];
  const top = Math.max(1e-9, ...chosen.map((mark) => mark[2]), ...rejected.map((mark) => mark[2]));
  const heading = h("h4", null, `Row ${count(row)}`, id ? [" · ", h("bdi", null, id)] : null, ` · disparity ${signed(disparity)}`);
  const prompt = turns.map(([role, text, length]) => h("div", { class: "turn" }, passage(role ? "Prompt, " + role : "Prompt", [text, length], [], 1)));
  const left = earlier ? h("p", { class: "note" }, `${plural(earlier, "earlier turn")} not shown.`) : null;
  return h(
    "article",
    { class: "pair" },
    heading,
    left,
    prompt,
    h(
      "div",
      { class: "answers" },
      h("div", null, passage("Chosen", chosenText, chosen, top)),
      h("div", null, passage("Rejected", rejectedText, rejected, top)),
    ),
  );
}

function side(title, entries) {
  return entries.length ? [h("h3", { class: "side-title" }, title), entries.map(pairCard)] : [];
}

function evidenceBody(item) {
  const unmarked = [...item.pro, ...item.con].every((entry) => !entry[2].length && !entry[3].length);
  const notes = [];
  if (unmarked) notes.push("Tokens were not marked for this one.");
  if (item.missing) notes.push(`${plural(item.missing, "more pair")} left out to keep this page small, or gone from the dataset.`);
  const carries = item.way === "less" ? "Pairs whose rejected response carries it" : "Pairs whose chosen response carries it";
  return [
    notes.length ? h("p", { class: "note" }, notes.join(" ")) : null,
    side(carries, item.pro),
    side("Pairs that contradict it", item.con),
  ];
}

// Closed at first: the texts are the dataset's own and may offend. Filled when it is opened.
function evidence(item, summary) {
  const total = item.pro.length + item.con.length;
  if (!total) return h("p", { class: "note" }, item.missing ? "Its pairs were left out to keep this page small." : "No pairs were kept for it.");
  const about = `${plural(item.pro.length, "pair")} for, ${count(item.con.length)} against`;
  const details = h("details", { class: "evidence" }, h("summary", null, h("span", null, summary), h("small", null, about)));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(h("div", null, evidenceBody(item)));
  });
  return details;
}

function effectTable(item) {
  const columns = [["Controlled", item.controlled], ["Raw", item.raw]].filter(([, effect]) => effect);
  const rows = [
    [item.view === "prompt_conditioned" ? "Effect, in SD" : "Effect", (effect) => signed(effect.estimate)],
    [`${Math.round(1000 * block.interval) / 10}% interval`, interval],
    ["z", (effect) => effect.z.toFixed(2).replace("-", MINUS)],
    ["p", (effect) => probability(effect.p)],
    ["q", (effect) => probability(effect.q)],
    ["q, any dependence", (effect) => probability(effect.qBy)],
  ];
  return h(
    "table",
    { class: "effects" },
    h("caption", { class: "sr" }, "Effects"),
    h("thead", null, h("tr", null, h("td"), columns.map(([name]) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      null,
      rows.map(([name, show]) => {
        const cells = columns.map(([, effect], place) => h("td", { class: place ? null : "decides" }, effect.reason ? "not tested" : show(effect)));
        return h("tr", null, h("th", { scope: "row" }, name), cells);
      }),
    ),
  );
}

function facts(item) {
  const entries = [
    [item.condition ? "Pairs inside" : "Pairs", count(item.inside)],
    item.condition ? ["Pairs outside", count(item.outside)] : null,
    ["Prompts that tell", count(item.prompts)],
    item.condition ? ["Cohen's d", signed(item.d)] : null,
    ["Both halves agree in sign", item.consistent ? "yes" : "no"],
    item.condition ? ["Smaller effect of both halves", signed(item.deltaMin)] : null,
    ["Rank", `${count(item.rank)} (by halves ${count(item.rankFirst)} and ${count(item.rankSecond)}: ${item.stable ? "stable" : "not stable"})`],
    item.effect.pMaxT === null ? null : ["Family-wise p (max-T)", probability(item.effect.pMaxT)],
    ["Family of tests", item.concept.family],
    item.verdict ? ["Raw finding, once controlled", VERDICTS[item.verdict]] : null,
    item.onlyChosen === null ? null : ["Pairs that differ", `${count(item.onlyChosen)} chosen, ${count(item.onlyRejected)} rejected`],
    item.carried === null ? null : ["Half of the effect is carried by", `${percent(item.carried)} of the pairs`],
    item.left === null ? null : ["Left without the strongest 5%", percent(item.left)],
    item.logOdds === null ? null : ["Log-odds, in nats", `${signed(item.logOdds)} (z ${signed(item.logOddsZ, 2)})`],
    ["Concept", item.concept.note || item.concept.title],
    item.concept.features.length > 1 ? ["Strongest features", item.concept.features.join(", ")] : null,
    item.concept.method ? ["Label made by", item.concept.method] : null,
    item.condition ? ["Condition", item.condition.id] : null,
  ];
  const rows = entries.filter(Boolean).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, h("bdi", null, value))));
  return h("dl", { class: "facts-list" }, rows);
}

function decided(item) {
  if (item.decision < 0) return null;
  const [mode, strength, note] = block.decisions[item.decision];
  const amount = strength === null || mode === "keep" ? "" : `, strength ${strength}`;
  return h("p", { class: "quote" }, h("strong", null, `Decided: ${MODES[mode] || mode}${amount}. `), h("bdi", null, note));
}

function verdict(item) {
  const effect = item.effect;
  if (effect.reason) return `It could not be tested: ${effect.reason}.`;
  const carry = item.way === "even" ? "Chosen and rejected responses carry it alike" : `Chosen responses carry it ${item.way}`;
  const sure = item.finding
    ? `This is a finding (${qOf(effect)}).`
    : `This is no finding (${qOf(effect)}${effect.q <= block.level ? ", but the halves of the data disagree" : ""}).`;
  return `${carry}: ${signed(effect.estimate)} ${interval(effect)}${unitOf(item)}. ${sure}`;
}

function sheet(item) {
  const close = h("button", { class: "button", type: "button", autofocus: true }, "Close");
  close.addEventListener("click", () => dialog.close());
  const pairs = evidence(item, "Read the pairs");
  return h(
    "div",
    { class: "sheet" },
    h("div", { class: "sheet-head" }, h("p", { class: "eyebrow" }, `${VIEWS[item.view]} · rank ${count(item.rank)}`), close),
    h("h2", { id: "detail-title" }, arrow(item), " ", h("bdi", null, item.concept.title)),
    item.condition ? h("p", { class: "lead" }, place(item)) : null,
    h("p", null, verdict(item)),
    decided(item),
    h("p", { class: "warning" }, "The texts of the pairs come from the dataset as they are, and may offend."),
    pairs,
    h("h3", null, "The numbers"),
    effectTable(item),
    facts(item),
  );
}

function open(item) {
  dialog.replaceChildren(sheet(item));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  remember("#" + item.id);
}

// Embedded viewers may forbid it; the page works without.
function remember(hash) {
  try {
    history.replaceState(null, "", hash || location.pathname + location.search);
  } catch {
    return;
  }
}
