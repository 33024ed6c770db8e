// Images go to the service one request each, a few at a time; what it says of the chosen one is shown in words.

const AT_ONCE = 4; // requests
const MOST_FILES = 200; // in one go; more are work for the batch command
const LONGEST_MS = 60_000; // for one answer
const FIRST_CLASSES = 5;
const PASSING = new Set([408, 429, 500, 502, 503, 504]); // statuses after which the same request may succeed
const SMALL_PX = 128; // pictures below it are shown pixel by pixel

// Why a file cannot be used, by the codes of the intake and of the service.
const REASONS = {
  empty_file: "The file is empty.",
  not_an_image: "This is not an image, or not one of a known format.",
  other_file: "This is not an image.",
  hidden_file: "Files whose name starts with a dot are not read.",
  system_file: "This file was made by an operating system and is not an image of yours.",
  truncated: "The end of the image is missing. Was it copied or downloaded completely?",
  damaged: "The image is damaged and cannot be decoded.",
  too_large: "The image has more pixels than the service decodes.",
  too_small: "The image is too small to be recognised.",
  unsupported_depth: "The image has numbers that are neither 8 nor 16 bits a channel.",
  unreadable: "The file could not be read.",
  no_answer: "The file could not be read.",
  missing_file: "The file could not be read.",
  file_too_large: "The file has more bytes than the service takes.",
  request_too_large: "The file has more bytes than the service takes.",
  overloaded: "The service is busy. Try again in a moment.",
  stopping: "The service is about to stop. Try again in a moment.",
  too_slow: "The upload took too long.",
  internal: "Something went wrong in the service; its log has the details.",
  unreachable: "The service cannot be reached. Is it running, and are you connected to it?",
  no_answer_in_time: "The service took longer than a minute.",
  not_a_file: "The browser cannot read this. Is it a folder, or has the file been moved?",
};
// What was done to an image that is used.
const NOTES = {
  wrong_extension: "The content is an image of another format than the name says.",
  first_frame: "It is animated or has several pages; the first one was used.",
  orientation: "It was turned as the camera noted.",
  damaged_exif: "The camera's notes in it are damaged; it was not turned.",
  alpha: "Its transparent parts were laid on a plain background.",
  cmyk: "It has printing colours, which were converted.",
  sixteen_bit: "It has 16 bits a channel, which were scaled to 8.",
  palette: "It has palette colours, which were converted.",
  one_bit: "It is black and white, without greys.",
  grey_to_colour: "It is grey; the network takes colours.",
  colour_to_grey: "It is in colour; the network takes greys.",
  training_image: "The network was trained on this very picture: that it knows it says little.",
  unlabelled_image: "This very picture was in the training without a label: the network may have learnt its own guess.",
  left_out_image: "The network learnt from this very picture without a label; it is judged as it would be without.",
};

const $ = (selector, within = document) => within.querySelector(selector);
const percent = (share, digits = 1) => {
  const shown = (100 * share).toFixed(digits);
  return share < 1 && Number(shown) === 100 ? `> ${(100 - 10 ** -digits).toFixed(digits)}%` : `${shown}%`;
};
const exactly = (share) => `${Number((100 * share).toPrecision(4))}%`;  // a promise, which rounding must not raise
const leastSure = (share) => {  // in as many digits as it takes not to ask for certainty
  let digits = 0;
  while (share < 1 && digits < 12 && Number((100 * share).toFixed(digits)) === 100) digits += 1;
  return percent(share, digits);
};
const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const filled = (id) => $(`#${id}`).content.cloneNode(true);
const here = (path) => new URL(path.replace(/^\//, ""), document.baseURI).href;

const entries = [];
let current = null; // the entry that is shown
let model = null; // what the service says of itself
let running = 0;
let strength = $("#labelled").content.querySelector("#strength").value;

async function ask(path, file) {
  const most = model?.limits?.most_file_mb;
  if (file.size > most * 1e6) return { error: { code: "file_too_large", detail: `a file may have ${most} MB` } };
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    return { error: { code: "not_a_file" } };
  }
  const body = new FormData();
  body.append("files", file, file.name);
  let response;
  try {
    response = await fetch(here(path), { method: "POST", body, signal: AbortSignal.timeout(LONGEST_MS) });
  } catch (error) {
    return { error: { code: error.name === "TimeoutError" ? "no_answer_in_time" : "unreachable" }, passing: true };
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = answer.images?.[0]?.error ?? answer.error ?? { code: `HTTP ${response.status}`, detail: response.statusText };
  return { error, passing: PASSING.has(response.status) };
}

async function label(entry) {
  const answer = await ask("predict", entry.file);
  const [image] = answer.images ?? [];
  if (answer.error || image?.error || !image) {
    Object.assign(entry, { error: answer.error ?? image?.error ?? { code: "no answer" }, passing: answer.passing });
  } else {
    Object.assign(entry, { image, model: answer.model });
    if (answer.model?.version !== model?.version) readModel();
  }
}

function work() {
  for (const entry of entries) {
    if (running >= AT_ONCE) break;
    if (entry.started) continue;
    entry.started = true;
    running += 1;
    label(entry).finally(() => {
      running -= 1;
      fillButton(entry);
      if (entry === current) show(entry);
      say();
      work();
    });
  }
  say();
}

function take(files) {
  const given = [...files];
  if (!given.length) return;
  const first = entries.length;
  for (const file of given.slice(0, MOST_FILES)) {
    const entry = { file, url: URL.createObjectURL(file) };
    const item = filled("entry");
    entry.button = $("button", item);
    const picture = $("img", item);
    picture.addEventListener("error", () => picture.replaceWith(element("span", "", "blank")));
    picture.src = entry.url;
    $(".file", item).textContent = file.name;
    entry.button.addEventListener("click", () => show(entry));
    $("#list ol").append(item);
    entries.push(entry);
    fillButton(entry);
  }
  left = given.length - MOST_FILES;
  $("#results").hidden = false;
  $("#results").classList.toggle("several", entries.length > 1);
  $("#list").hidden = entries.length < 2;
  $("#intake").classList.add("filled");
  show(entries[first]);
  work();
}
let left = 0;

function say() {
  const done = entries.filter((entry) => entry.image || entry.error);
  const words = [];
  if (done.length < entries.length) {
    words.push(entries.length === 1 ? "Labelling …" : `Labelling: ${done.length} of ${entries.length} done …`);
  } else if (entries.length) {
    const answered = entries.filter((entry) => entry.image?.answer != null).length;
    const refused = entries.filter((entry) => entry.error).length;
    words.push(
      entries.length === 1
        ? short(entries[0])
        : `${counted(entries.length, "image")}: ${answered} answered, ${entries.length - answered - refused} without an answer, ${refused} not usable.`,
    );
  }
  if (left > 0) words.push(`${counted(left, "more file")} were left out: whole folders are labelled by kedro run --pipelines predict --params images=FOLDER.`);
  $("#status").textContent = words.join(" ");
  $("#status").classList.toggle("unseen", entries.length === 1 && done.length === 1 && left <= 0);
}

function short(entry) {
  if (entry.error) return "Not usable";
  if (!entry.image) return "Waiting …";
  return entry.image.answer == null ? `No answer (${entry.image.predicted}?)` : `${entry.image.answer} · ${percent(entry.image.confidence)}`;
}

function fillButton(entry) {
  const place = $(".short", entry.button);
  place.textContent = short(entry);
  place.title = place.textContent;
  if (entry.image?.answer != null) {
    // A long name is cut, its confidence never.
    const [name, share] = [document.createElement("span"), document.createElement("span")];
    name.textContent = entry.image.answer;
    share.textContent = ` · ${percent(entry.image.confidence)}`;
    place.replaceChildren(name, share);
  }
  place.className = "short";
  if (entry.error) place.classList.add("unusable");
  else if (!entry.image) place.classList.add("waiting");
  else if (entry.image.answer == null) place.classList.add("withheld");
}

function show(entry) {
  current = entry;
  for (const { button } of entries) button.removeAttribute("aria-current");
  entry.button.setAttribute("aria-current", "true");
  entry.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  const detail = $("#detail");
  detail.setAttribute("aria-busy", String(!entry.image && !entry.error));
  detail.replaceChildren(entry.error ? failed(entry) : labelled(entry));
  if (entry.image) explain(entry);
}

function failed(entry) {
  const part = filled("failed");
  const { code, detail } = entry.error;
  const words = REASONS[code];
  $("strong", part).textContent = entry.passing ? "No answer from the service" : "This file cannot be used";
  $(".why", part).textContent = `${entry.file.name}: ${words ?? detail ?? "the service refused it."}`;
  $(".detail-words", part).textContent = [`Reason ${code}`, words && detail].filter(Boolean).join(": ");
  const again = $(".again", part);
  again.hidden = !entry.passing;
  again.addEventListener("click", () => {
    for (const key of ["error", "passing", "started"]) delete entry[key];
    fillButton(entry);
    show(entry);
    work();
  });
  return part;
}

function labelled(entry) {
  const part = filled("labelled");
  const { image } = entry;
  drawOwn(entry, part);
  const slider = $("#strength", part);
  slider.value = strength;
  slider.addEventListener("input", () => setStrength(slider.value));
  if (!image) {
    $("#verdict-title", part).textContent = "Labelling …";
    $(".why", part).textContent = entry.file.name;
    for (const selector of [".explanation", ".notes", ".tiles", ".made", ".found"]) {
      $(selector, part).hidden = true;
    }
    return part;
  }
  drawVerdict(image, part);
  const notes = image.notes ?? [];
  $(".notes", part).hidden = !notes.length;
  $(".notes", part).append(...notes.map((code) => element("li", NOTES[code] ?? code)));
  drawBars(image, entry.model, part);
  drawTiles(image, part);
  drawNearest(image, part);
  const made = $(".made", part);
  made.hidden = !model?.version || entry.model.version === model.version;
  made.textContent = `Labelled by version ${entry.model.version}; the service now has ${model?.version}.`;
  return part;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function sized(picture) {
  picture.addEventListener("load", () => picture.classList.toggle("small", Math.max(picture.naturalWidth, picture.naturalHeight) < SMALL_PX));
}

function drawOwn(entry, part) {
  const own = $(".own", part);
  const caption = own.closest("figure").querySelector("figcaption");
  sized(own);
  own.addEventListener("load", () => {
    caption.textContent = `${entry.file.name}, ${own.naturalWidth} × ${own.naturalHeight}`;
  });
  own.addEventListener("error", () => {
    own.removeAttribute("src");
    caption.textContent = `${entry.file.name}; this browser cannot show its format`;
  });
  own.src = entry.url;
}

function drawVerdict(image, part) {
  const verdict = $(".verdict", part);
  const facts = model?.facts ?? {};
  const sure = `${percent(image.confidence).replace(">", "over")} sure`;
  if (image.answer != null) {
    verdict.classList.add("positive");
    $("strong", verdict).textContent = image.answer;
    const kept = facts.promised_accuracy
      ? ` Of its answers on images like those of the training, at least ${exactly(facts.promised_accuracy)} are right (with ${exactly(facts.confidence)} confidence).`
      : "";
    $(".why", verdict).textContent = `${sure[0].toUpperCase()}${sure.slice(1)}.${kept}`;
  } else {
    verdict.classList.add("withheld");
    $("strong", verdict).textContent = "No answer";
    const why = image.withheld_text || "it is not sure enough";
    $(".why", verdict).textContent = `Withheld: ${why}. The best guess would be ${image.predicted}, ${sure}.`;
  }
}

function drawBars(image, { class_names: names }, part) {
  const ranked = names.map((name) => [name, image.probabilities[name] ?? 0]).sort(([, a], [, b]) => b - a);
  const rows = ranked.map(([name, share], place) => {
    const row = element("tr", undefined, place ? "" : "first");
    const head = element("th");
    head.scope = "row";
    const bar = element("span", undefined, "bar");
    bar.style.setProperty("--share", share);
    head.append(bar, element("span", name, "name"));
    row.append(head, element("td", share < 0.0005 && share > 0 ? "< 0.1%" : percent(share)));
    row.hidden = place >= FIRST_CLASSES && names.length > FIRST_CLASSES + 1;
    return row;
  });
  $("tbody", part).append(...rows);
  const more = $(".more", part);
  more.hidden = names.length <= FIRST_CLASSES + 1;
  more.textContent = `All ${names.length} classes`;
  more.addEventListener("click", () => {
    for (const row of rows) row.hidden = false;
    more.remove();
  });
}

function drawTiles(image, part) {
  const facts = model?.facts ?? {};
  const tile = (name, value, note) => {
    const item = element("li");
    item.append(element("span", name, "name"), element("span", value, "value"), element("span", note, "note"));
    return item;
  };
  const tiles = [
    tile(
      "Confidence",
      percent(image.confidence),
      !facts.threshold ? "calibrated" : `calibrated; it answers from ${leastSure(facts.threshold)} on`,
    ),
  ];
  if (image.set) {
    const coverage = facts.sets?.coverage;
    const share = coverage ? `${exactly(coverage)} of images` : "most images";  // of a model that is not known yet
    const found = image.set.length
      ? `such sets hold the true class of ${share}`
      : `no class is as probable as the true one is in ${share}: be careful, whatever it answers`;
    tiles.push(tile("It may be", image.set.join(" · ") || "not clear", found));
  }
  const words = image.unfamiliar == null ? "Not known" : image.unfamiliar ? `No, unlike them in ${image.unlike}` : "Yes";
  const rate = facts.familiarity?.false_alarm_rate;
  const limit = image.unfamiliar == null || rate == null ? "" : `; called unlike them from ${percent(1 - rate, 0)} on`;
  const others = facts.familiarity?.held_out === false ? "left-out training images" : "validation images";
  const share = image.percentile == null ? "" : `${percent(image.percentile, 0)} of ${others} are more like them${limit}`;
  tiles.push(tile("Like the training images?", words, share));
  $(".tiles", part).append(...tiles);
}

function drawNearest(image, part) {
  const nearest = image.nearest ?? [];
  $(".like", part).hidden = !nearest.length;
  const same = nearest.filter((other) => other.label === image.predicted).length;
  $(".same", part).textContent = `${same === nearest.length ? "All" : same || "None"} of them ${same < 2 ? "is" : "are"} of the class ${image.predicted}.`;
  $(".nearest", part).append(
    ...nearest.map(({ label: name, thumbnail }) => {
      const item = element("li");
      const frame = element("div", undefined, "frame");
      const picture = element("img");
      picture.alt = `Training image of class ${name}`;
      sized(picture);
      picture.src = here(thumbnail);
      frame.append(picture);
      item.append(frame, element("span", name, "label"));
      return item;
    }),
  );
}

function setStrength(value) {
  strength = value;
  const frame = $(".network", $("#detail"));
  if (frame) frame.style.setProperty("--strength", value / 100);
}

async function explain(entry) {
  const detail = $("#detail");
  const place = $(".explanation", detail);
  place.setAttribute("aria-busy", "true");
  $(".note", place).textContent = "Finding out what counted: places of the image are covered one after the other …";
  entry.explained ??= ask("explain", entry.file);
  const found = await entry.explained;
  if (!place.isConnected) return; // another image is shown by now
  place.setAttribute("aria-busy", "false");
  if (found.error) {
    delete entry.explained;
    $(".control", place).hidden = true;
    $(".note", place).textContent = `What counted cannot be shown: ${found.error.detail ?? REASONS[found.error.code] ?? found.error.code}`;
    return;
  }
  const picture = $(".picture", detail);
  sized(picture);
  picture.alt = `The image as the network sees it, with what speaks for ${found.class} marked`;
  const shape = model?.facts?.card?.image_shape;
  $(".seen-size", detail).textContent = `What the network sees${shape ? `, ${shape[1]} × ${shape[0]}` : ""}`;
  picture.src = found.picture;
  $(".map", detail).src = found.map;
  $(".about-class", place).textContent = ` for ${found.class}`;
  $(".note", place).textContent = found.faithfulness_note ?? "";
  setStrength(strength);
}

async function readModel() {
  try {
    const response = await fetch(here("model"));
    if (!response.ok) throw new Error(response.statusText);
    model = await response.json();
  } catch {
    $("#about").textContent = "The service does not say which model it has.";
    return;
  }
  const facts = model.facts ?? {};
  const names = model.class_names ?? facts.card?.class_names ?? [];
  const shown = names.slice(0, 12).join(", ") + (names.length > 12 ? ` and ${names.length - 12} more` : "");
  const trained = facts.card ? ` Trained on ${counted(facts.card.training_images, "image")} of ${facts.card.trained_on}.` : "";
  $("#about").textContent = `Into ${names.length} classes: ${shown}.${trained}`;
  const promised = exactly(facts.promised_accuracy ?? 0);
  $("#promise").textContent =
    facts.threshold == null
      ? "It gives its best guess and how sure it is; for want of evidence it vouches for no answer."
      : facts.threshold === 0
        ? `However sure it is, it answers all images that are like the training images, which keeps ${promised} of its answers right. Images are not kept.`
        : `It answers when it is at least ${leastSure(facts.threshold)} sure, which keeps ${promised} of its answers right, and says so when it is not. Images are not kept.`;
  $("#version").textContent = `Model ${model.version}${model.runtime ? `, ${model.runtime}` : ""}`;
  if (current?.image) show(current);
}

for (const input of [$("#files"), $("#camera")]) {
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // the same file may be given again
  });
}
$("#intake").addEventListener("submit", (event) => event.preventDefault());
addEventListener("paste", (event) => take(event.clipboardData?.files ?? []));
let inside = 0; // elements that a dragged file is over
addEventListener("dragenter", () => document.body.classList.toggle("over", ++inside > 0));
addEventListener("dragleave", () => document.body.classList.toggle("over", --inside > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("over");
  take(event.dataTransfer.files);
});
readModel();
