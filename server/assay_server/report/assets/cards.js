// What is done with cards: commands and links are copied, decisions are collected here and saved as a file for `assay decide --from`.

const decisions = new Map();
const tray = document.getElementById("tray");

// Where the page may not write to the clipboard, the text is selected instead, to be copied by hand.
async function copy(button, text, shown) {
  const said = button.textContent;
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (shown) getSelection().selectAllChildren(shown);
    done = shown ? "Selected: press Ctrl+C" : text;
  }
  button.textContent = done;
  announce(done);
  setTimeout(() => (button.textContent = said), 2000);
}

const announce = (text) => (document.getElementById("said").textContent = text);

function button(text, act, attributes) {
  const made = h("button", { type: "button", class: "button", ...attributes }, text);
  made.addEventListener("click", () => act(made));
  return made;
}

const linkTo = (id) => location.href.split("#")[0] + "#" + id;

// What was decided on the server before the page was made, which a new decision replaces.
function recorded(id) {
  const item = byId.get(id);
  if (!item || item.decision < 0) return null;
  const [mode, strength, note] = block.decisions[item.decision];
  return { mode, strength, note };
}

function decider(card) {
  const before = recorded(card.id);
  const status = h("p", { class: "note" });
  const strength = h("input", { type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: "1" });
  const note = h("input", { type: "text", maxlength: "1000", autocomplete: "off" });
  const more = h("div", { class: "decision", hidden: true }, h("label", null, "Strength", strength), h("label", null, "Why", note));
  const buttons = Object.entries(MODES).map(([mode, words]) =>
    button(words, () => decide(decisions.get(card.id)?.mode === mode ? null : mode), { "aria-pressed": "false", "data-mode": mode }),
  );

  function decide(mode) {
    if (mode === null) decisions.delete(card.id);
    else decisions.set(card.id, { hypothesis: card.id, mode, strength: amount(), note: note.value.trim() });
    more.hidden = mode === null;
    strength.parentElement.hidden = mode === "keep";
    buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.mode === mode)));
    status.textContent = mode === null ? told : "";
    showTray();
  }

  const amount = () => (strength.value === "" || !(strength.valueAsNumber >= 0) ? null : strength.valueAsNumber);
  for (const field of [strength, note]) {
    field.addEventListener("input", () => decisions.has(card.id) && decide(decisions.get(card.id).mode));
  }
  const told = before ? `Decided: ${(MODES[before.mode] || before.mode).toLowerCase()}.` : "";
  status.textContent = told;
  const group = h("div", { class: "deciders", role: "group", "aria-label": "Decide: " + titleOf(card) }, buttons);
  return { element: [group, more, status], clear: () => decide(null) };
}

const titleOf = (card) => card.querySelector("h3").textContent;

// The buttons of every card that can be decided about, and its links.
const deciders = [...document.querySelectorAll("article.card")].map((card) => {
  const code = card.querySelector(".command code");
  const copies = [
    code ? button("Copy command", (made) => copy(made, code.textContent, code)) : null,
    button("Copy link", (made) => copy(made, linkTo(card.id), null)),
  ];
  const own = code ? decider(card) : null;
  const links = h("div", { class: "copies" }, card.querySelector(".more-of a"), copies);
  card.querySelector(".more-of")?.remove();
  card.append(...(own ? own.element : []), links);
  return own;
});

function exported() {
  return JSON.stringify({ audit: block.audit, result_fingerprint: block.fingerprint, decisions: [...decisions.values()] }, null, 1) + "\n";
}

function save() {
  const url = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
  h("a", { href: url, download: "decisions.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  announce("Saved decisions.json");
}

const chosen = h("p", { class: "chosen" });
const command = h("code", null, "assay decide --from decisions.json");

function showTray() {
  tray.hidden = decisions.size === 0;
  chosen.textContent = `${plural(decisions.size, "decision")} on this page, not recorded yet`;
}

if (tray) {
  const clear = () => deciders.forEach((own) => own && own.clear());
  const buttons = h("div", { class: "copies" }, button("Save decisions.json", save), button("Discard", clear));
  tray.append(chosen, buttons, h("p", { class: "note" }, "Then: ", command));
}

const note = document.getElementById("excerpt-note");
if (note) {
  const hide = button("Hide excerpts", (made) => {
    const hidden = document.body.classList.toggle("no-excerpts");
    made.textContent = hidden ? "Show excerpts" : "Hide excerpts";
  });
  note.after(hide);
}
