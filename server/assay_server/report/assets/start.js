// Wires the page: links to hypotheses open their sheet, the strongest findings list their pairs, plots and table come alive.

const LISTED = 8;

function listPairs(target) {
  const seen = new Set();
  const strongest = items.filter((item) => {
    const key = item.concept.title + "\n" + (item.condition ? item.condition.title : "");
    if (!item.finding || !item.pro.length || seen.has(key)) return false;
    return seen.add(key);
  });
  // Views by turns, so that narrow lessons are not crowded out.
  const queues = ORDER.map((view) => strongest.filter((item) => item.view === view));
  const listed = [];
  for (let turn = 0; listed.length < LISTED && turn < strongest.length; turn++) {
    listed.push(...queues.map((queue) => queue[turn]).filter(Boolean));
  }
  const nothing = items.some((item) => item.finding) ? "No pairs were kept with the findings." : "There are no findings to show pairs for. Open a hypothesis in the table below to read its pairs.";
  target.replaceChildren(
    ...(listed.length ? listed.slice(0, LISTED).map((item) => evidence(item, summary(item))) : [h("p", { class: "empty" }, nothing)]),
  );
}

const summary = (item) => h("span", null, arrow(item), " ", h("bdi", null, item.concept.title), place(item));

function openFromHash() {
  const item = byId.get(location.hash.slice(1));
  if (item) open(item);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.open");
  const item = link && byId.get(link.hash.slice(1));
  if (!item || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  open(item);
});
dialog.addEventListener("close", () => remember(""));
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
window.addEventListener("hashchange", openFromHash);

listPairs(document.getElementById("pairs-list"));
allHypotheses(document.getElementById("table-place"));
document.querySelectorAll("figure.volcano").forEach(volcano);
document.querySelectorAll("table.heat").forEach(heatmap);
openFromHash();
