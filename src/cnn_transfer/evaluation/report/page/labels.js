// What is pressed is a label; all of them are kept in the browser, and saved as a table.
const facts = JSON.parse(document.getElementById("facts").textContent);
const names = new Set(JSON.parse(document.getElementById("names").textContent));
const cards = [...document.querySelectorAll(".card")];
const given = new Map();
let current = 0;

// In IndexedDB: of a page that is opened from a disk, Chromium 156 loses what is in localStorage.
const database = new Promise((resolve, reject) => {
  const request = indexedDB.open("cnn-transfer", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("labels");
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

function stored(mode, ask) {
  const answer = (opened) => new Promise((resolve, reject) => {
    const transaction = opened.transaction("labels", mode);
    const request = ask(transaction.objectStore("labels"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    transaction.commit();  // at once, for somebody may leave the page
  });
  return database.then(answer).catch(() => undefined);  // a browser may keep nothing of pages from a disk
}

async function remember() {
  const ids = new Set(cards.map((card) => card.dataset.id));
  const before = await stored("readonly", (labels) => labels.get(facts.key)) ?? [];
  const now = [...given];  // pressed in the meantime
  for (const [id, label] of [...before, ...now]) if (ids.has(id)) given.set(id, label);
  if (now.length) keep();
  show();
}

function keep() {
  stored("readwrite", (labels) => labels.put([...given], facts.key));
}

function show() {
  cards.forEach((card, place) => {
    const label = given.get(card.dataset.id);
    card.classList.toggle("done", label !== undefined);
    card.classList.toggle("current", place === current);
    for (const button of card.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.label === label));
    const input = card.querySelector("input");
    if (input) {
      const listed = label !== undefined && ![...card.querySelectorAll("button")].some((button) => button.dataset.label === label);
      if (listed) input.value = label;
      else if (label !== undefined) input.value = "";
      input.classList.toggle("chosen", listed);
    }
  });
  document.getElementById("progress").textContent = `${given.size} of ${cards.length} labelled`;
  document.getElementById("share").value = given.size;
  document.getElementById("save").disabled = given.size === 0;
  document.getElementById("clear").disabled = given.size === 0;
}

function label(card, name) {
  if (given.get(card.dataset.id) === name) given.delete(card.dataset.id);
  else given.set(card.dataset.id, name);
  keep();
  show();
}

function move(place) {
  current = Math.max(0, Math.min(cards.length - 1, place));
  show();
  cards[current]?.focus({ preventScroll: true });  // or who comes back from another window would be where the focus was
  cards[current]?.scrollIntoView({ block: "nearest" });
}

cards.forEach((card, place) => {
  card.addEventListener("focusin", () => {  // keys are for the image that has the focus
    current = place;
    cards.forEach((other) => other.classList.toggle("current", other === card));
  });
  for (const button of card.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      current = place;
      label(card, button.dataset.label);
    });
  }
  card.querySelector("input")?.addEventListener("change", (event) => {
    const name = event.target.value.trim();
    event.target.setCustomValidity(name && !names.has(name) ? "Not one of the classes" : "");
    event.target.reportValidity();
    if (name && !names.has(name)) return;
    current = place;
    if (name) given.set(card.dataset.id, name);
    else given.delete(card.dataset.id);
    keep();
    show();
  });
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
  if (event.key === "ArrowDown" || event.key === "ArrowRight") move(current + 1);
  else if (event.key === "ArrowUp" || event.key === "ArrowLeft") move(current - 1);
  else {
    const buttons = [...(cards[current]?.querySelectorAll("button") ?? [])];
    const button = buttons.find((one) => one.dataset.key === event.key.toLowerCase())
      ?? (event.key === "-" ? buttons.find((one) => one.dataset.label === "") : undefined);
    if (!button) return;
    given.set(cards[current].dataset.id, button.dataset.label);
    keep();
    move(current + 1);
  }
  event.preventDefault();
});

document.getElementById("save").addEventListener("click", () => {
  const quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const rows = cards.filter((card) => given.has(card.dataset.id)).map((card) => [card.dataset.id, given.get(card.dataset.id), given.get(card.dataset.id) ? facts.split : facts.split_of_none]);
  const text = [["id", "label", "split"], ...rows].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = facts.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

document.getElementById("clear").addEventListener("click", () => {
  if (!confirm(`Forget ${given.size} labels?`)) return;
  given.clear();
  current = 0;
  keep();
  show();
});

remember();
