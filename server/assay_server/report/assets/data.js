// The data block as objects, and the one way to make an element: texts become text nodes, never markup.

const block = JSON.parse(document.getElementById("data").textContent);
const VIEWS = {
  global: "Everywhere",
  feature_conditioned: "In clusters",
  prompt_conditioned: "By prompt",
  stated: "Stated",
};
const VERDICTS = ["", "explained", "weakened or undecided", "unchanged"]; // what control leaves; by number
const MODES = { explain_away: "Explain away", amplify: "Amplify", keep: "Keep" };

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function readEffect(row) {
  if (!row) return null;
  const [estimate, low, high, z, p, q, qBy, pMaxT, reason] = row;
  return { estimate, low, high, z, p, q, qBy, pMaxT, reason };
}

function readItem(row) {
  const item = Object.fromEntries(block.fields.map((name, place) => [name, row[place]]));
  const [title, note, method, features, size, family] = block.concepts[item.concept];
  item.concept = { title, note, method, features, size, family };
  if (item.condition >= 0) {
    const [words, name, id, inner] = block.conditions[item.condition];
    item.condition = { words, title: name, id, features: inner };
  } else {
    item.condition = null;
  }
  item.raw = readEffect(item.raw);
  item.controlled = readEffect(item.controlled);
  item.effect = item.controlled || item.raw;
  item.way = item.effect.estimate < 0 ? "less" : item.effect.estimate > 0 ? "more" : "even";
  item.haystack = [title, note, item.condition ? item.condition.title + " " + item.condition.id : ""].join("\n").toLowerCase();
  return item;
}

const items = block.rows.map(readItem);
const byId = new Map(items.map((item) => [item.id, item]));

const MARKS = { more: "▲", less: "▼", even: "■" };
const arrow = (item) => h("span", { class: "dir " + item.way }, `${MARKS[item.way]} ${item.way}`);
const place = (item) =>
  item.condition ? h("span", { class: "where" }, " ", item.condition.words, " ", h("bdi", null, item.condition.title)) : null;
const opener = (item) => h("a", { class: "open", href: "#" + item.id, dir: "auto" }, item.concept.title);

const qOf = (effect) => (effect.q > 0 ? `q\u00a0=\u00a0${probability(effect.q)}` : `q ${probability(effect.q)}`);

// Effects by prompt are in standard deviations, all others in shares of pairs: no figure of the one stands among the other without its unit.
const unitOf = (item) => (item.view === "prompt_conditioned" ? "\u00a0SD" : "");
const amount = (item, effect) => signed(effect.estimate) + unitOf(item);

// One line about a hypothesis, for readouts.
function sentence(item) {
  const where = item.condition ? ` ${item.condition.words} ${item.condition.title}` : "";
  const found = item.finding ? "a finding" : "no finding";
  return `${item.way} ${item.concept.title}${where}: ${amount(item, item.effect)}, ${qOf(item.effect)}, ${found}`;
}
