"use strict";

// Every page works without this script, which only improves it.

// dateFormat formats times in the user's time zone, or the browser's if they have chosen none.
// A browser may not know the zone.
function dateFormat() {
  const options = { dateStyle: "medium", timeStyle: "medium" };
  try {
    return new Intl.DateTimeFormat(undefined, { ...options, timeZone: document.body.dataset.zone });
  } catch {
    return new Intl.DateTimeFormat(undefined, options);
  }
}

function timeZones() {
  const list = document.getElementById("zones");
  if (!list || !Intl.supportedValuesOf) return;
  for (const zone of Intl.supportedValuesOf("timeZone")) list.append(new Option(zone, zone));
}

function localTimes(root) {
  const format = dateFormat();
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = time.textContent;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

function counters() {
  for (const area of document.querySelectorAll("textarea[data-counter]")) {
    const count = document.getElementById(area.dataset.counter);
    const max = Number(area.dataset.max);
    const show = () => {
      const left = max - Array.from(area.value).length;
      count.textContent = left >= 0 ? left + " left." : -left + " too many.";
      count.classList.toggle("too-long", left < 0);
    };
    area.addEventListener("input", show);
    show();
  }
}

// linkedPictures has a small version of the picture behind each link that was checked.
const linkedPictures = new Map();

const linksIn = (input) => input.value.split(/\s+/).filter(Boolean);

// showOnPhone shows the pictures in the order in which they are sent.
function showOnPhone() {
  const fieldset = document.getElementById("pictures");
  const linked = Array.from(fieldset.querySelectorAll("input[name=mediaUrl]")).flatMap(linksIn).map((link) => linkedPictures.get(link));
  const uploaded = Array.from(fieldset.querySelectorAll(".uploads li"))
    .filter((item) => item.querySelector("input:checked"))
    .map((item) => item.querySelector("img")?.src);
  document.getElementById("phone-pictures").replaceChildren(...[...linked, ...uploaded].filter(Boolean).map((src) => {
    const image = document.createElement("img");
    image.src = src;
    image.alt = "";
    return image;
  }));
}

// pictures uploads files as soon as they are chosen, dropped or pasted, and shows what will
// be sent. Without it, the form sends the files itself.
function pictures() {
  const form = document.getElementById("compose");
  if (!form) return;
  const fieldset = document.getElementById("pictures");
  const list = document.getElementById("uploads");
  const input = document.getElementById("file");
  const drop = document.getElementById("drop");
  const status = document.getElementById("upload-status");
  const max = Number(fieldset.dataset.max);
  const waiting = document.createElement("p"); // beside the button: why it does not send yet
  waiting.className = "error";
  waiting.id = "upload-waiting";
  waiting.setAttribute("role", "alert");
  form.querySelector(".left > button").before(waiting);
  document.getElementById("file-hint").append(" You can also drop pictures on this page, or paste them.");

  const chosen = () => list.querySelectorAll("input[name=mediaId]:checked").length;
  const size = (bytes) => bytes >= 1e6 ? (bytes / 1e6).toFixed(1) + " MB" : Math.max(1, Math.round(bytes / 1000)) + " kB";

  function entry() {
    const item = document.createElement("li");
    const note = document.createElement("span");
    note.className = "note";
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "quiet";
    item.append(note, remove);
    list.append(item);
    return { item, note, remove };
  }

  function discard(item) {
    const next = item.nextElementSibling?.querySelector("button") || input;
    item.remove();
    waiting.textContent = "";
    next.focus();
    showOnPhone();
  }

  function showUpload({ item, note, remove }, upload, name) {
    const image = document.createElement("img");
    image.src = upload.src;
    image.alt = "";
    image.width = upload.width;
    image.height = upload.height;
    const id = document.createElement("input");
    id.type = "checkbox"; // like those that the server renders, and checked as long as it is there
    id.name = "mediaId";
    id.value = upload.id;
    id.checked = true;
    id.hidden = true;
    item.querySelector("progress")?.remove();
    waiting.textContent = "";
    item.prepend(image, id);
    note.textContent = upload.note;
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", "Remove " + name);
    status.textContent = name + " is uploaded: " + upload.note;
    showOnPhone();
  }

  function refuse({ item, note, remove }, message) {
    waiting.textContent = "";
    item.querySelector("progress")?.remove();
    item.classList.add("bad");
    note.textContent = message;
    remove.textContent = "Dismiss";
    remove.removeAttribute("aria-label");
    status.textContent = message;
  }

  function send(file) {
    const shown = entry();
    const name = file.name || "The picture";
    if (chosen() + list.querySelectorAll("progress").length >= max) {
      refuse(shown, `${name} was not added: a message has at most ${max} pictures.`);
      shown.remove.addEventListener("click", () => discard(shown.item));
      return;
    }
    transfer(shown, file, name, false);
  }

  function transfer(shown, file, name, firstFrame) {
    const progress = document.createElement("progress");
    progress.max = 1;
    progress.setAttribute("aria-label", "Uploading " + name);
    shown.item.classList.remove("bad");
    shown.item.prepend(progress);
    shown.note.textContent = `${name} (${size(file.size)})`;
    shown.remove.textContent = "Cancel";
    shown.remove.setAttribute("aria-label", "Cancel " + name);
    const request = new XMLHttpRequest(); // fetch reports no progress of uploads
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) progress.value = event.loaded / event.total; });
    request.upload.addEventListener("load", () => { progress.removeAttribute("value"); shown.note.textContent = `Making ${name} fit`; });
    request.addEventListener("load", () => {
      let answer = null;
      try { answer = JSON.parse(request.responseText); } catch { /* an error page */ }
      if (answer?.uploads?.length) { showUpload(shown, answer.uploads[0], name); return; }
      refuse(shown, answer?.errors?.[0] || (request.status === 200 ? "Your session has ended. Log in in another tab, then add the picture again." : `${name} could not be uploaded. Try again.`));
      if (answer?.askFirstFrame) offerFirstFrame(shown, file, name);
    });
    request.addEventListener("error", () => refuse(shown, `${name} could not be uploaded: Postcard cannot be reached.`));
    shown.remove.onclick = () => {
      if (progress.isConnected) status.textContent = "The upload of " + name + " is canceled";
      else if (shown.item.querySelector("img")) status.textContent = name + " is removed";
      request.abort();
      discard(shown.item);
    };
    const body = new FormData();
    if (firstFrame) body.append("firstFrame", "on"); // before the file
    body.append("file", file, file.name);
    request.open("POST", fieldset.dataset.uploads);
    request.send(body);
    status.textContent = "Uploading " + name;
  }

  // offerFirstFrame lets people send an animation that is too large as a still picture.
  function offerFirstFrame(shown, file, name) {
    const still = document.createElement("button");
    still.type = "button";
    still.className = "quiet";
    still.textContent = "Use the first frame";
    still.addEventListener("click", () => {
      still.remove();
      transfer(shown, file, name, true);
      shown.remove.focus();
    });
    shown.remove.before(still);
  }

  const sendAll = (files) => Array.from(files).forEach(send);
  input.addEventListener("change", () => { sendAll(input.files); input.value = ""; });

  // Files may be dropped anywhere: a browser would open one that misses the field, and the
  // form would be lost.
  const hasFiles = (e) => e.dataTransfer?.types.includes("Files");
  for (const event of ["dragenter", "dragover"]) document.addEventListener(event, (e) => { if (hasFiles(e)) { e.preventDefault(); drop.classList.add("over"); } });
  document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (e) => {
    drop.classList.remove("over");
    if (hasFiles(e)) { e.preventDefault(); sendAll(e.dataTransfer.files); }
  });
  document.addEventListener("paste", (e) => {
    const text = e.target.matches?.("input, textarea") && e.clipboardData?.types.includes("text/plain"); // office programs add a picture of it
    if (!text && e.clipboardData?.files.length) { e.preventDefault(); sendAll(e.clipboardData.files); }
  });
  form.addEventListener("submit", (e) => {
    if (!list.querySelector("progress")) return;
    e.preventDefault();
    waiting.textContent = "The message was not sent: a picture is still being uploaded. Wait for it or cancel it, then press Send message again.";
  });
  list.addEventListener("change", showOnPhone);

  const text = document.getElementById("text");
  document.getElementById("preview").hidden = false; // without a script it would stay as it is
  const phoneText = document.getElementById("phone-text");
  const showText = () => { phoneText.textContent = text.value; };
  text.addEventListener("input", showText);
  showText();
}

// links checks links to pictures while they are entered, and lets people add more.
function links() {
  const fieldset = document.getElementById("pictures");
  if (!fieldset) return;
  const inputs = () => fieldset.querySelectorAll("input[name=mediaUrl]");
  const answers = new Map(); // by link

  async function ask(link) {
    const response = await fetch(fieldset.dataset.link, { method: "POST", body: new URLSearchParams({ url: link }) }).catch(() => null);
    const answer = response?.ok && response.headers.get("Content-Type").includes("json") ? await response.json() : { good: true, text: "" };
    if (!answer.good || !answer.text) answers.delete(link); // ask again next time
    if (answer.picture) linkedPictures.set(link, answer.picture);
    return answer;
  }

  // check says below the links of an input what is behind them.
  async function check(input) {
    const links = linksIn(input).slice(0, Number(fieldset.dataset.max));
    const found = foundFor(input);
    const asked = links.join(" ");
    if (found.dataset.asked === asked) return;
    found.dataset.asked = asked;
    found.textContent = links.length ? "Checking the link…" : "";
    found.classList.remove("error");
    const results = await Promise.all(links.map((link) => {
      if (!answers.has(link)) answers.set(link, ask(link));
      return answers.get(link);
    }));
    if (found.dataset.asked !== asked) return; // a later check answers
    found.textContent = results.map((answer) => answer.text).filter(Boolean).join(" ");
    found.classList.toggle("error", results.some((answer) => !answer.good));
    showOnPhone();
  }

  // foundFor returns the paragraph with what is behind the links of an input.
  function foundFor(input) {
    const id = input.id + "-found";
    let found = document.getElementById(id);
    if (found) return found;
    found = document.createElement("p");
    found.className = "hint found";
    found.id = id;
    found.setAttribute("role", "status");
    input.after(found);
    input.setAttribute("aria-describedby", input.getAttribute("aria-describedby") + " " + id);
    return found;
  }

  if (fieldset.dataset.link) {
    const pause = 800; // ms without a key: the link is probably complete
    let typing = 0;
    fieldset.addEventListener("input", (e) => {
      if (e.target.name !== "mediaUrl") return;
      clearTimeout(typing);
      typing = setTimeout(check, pause, e.target);
      showOnPhone();
    });
    fieldset.addEventListener("change", (e) => { if (e.target.name === "mediaUrl") { clearTimeout(typing); check(e.target); } });
    inputs().forEach((input) => { if (input.value) check(input); });
  }

  const more = document.createElement("button");
  more.type = "button";
  more.className = "quiet";
  more.textContent = "Add another link";
  more.addEventListener("click", () => {
    const number = inputs().length;
    const field = fieldset.querySelector(".picture:last-of-type").cloneNode(true);
    field.querySelectorAll("p").forEach((e) => e.remove());
    const input = field.querySelector("input");
    input.id = "media-" + number;
    input.value = "";
    input.removeAttribute("aria-invalid");
    input.setAttribute("aria-describedby", "media-hint");
    const label = field.querySelector("label");
    label.htmlFor = input.id;
    label.firstChild.textContent = "Link to picture " + (number + 1) + " ";
    fieldset.insertBefore(field, more);
    input.focus();
    more.hidden = number + 1 >= Number(fieldset.dataset.max);
  });
  fieldset.append(more);
}

// live keeps the region #live current. A server-sent event triggers a fetch of
// the page itself, whose #live then replaces the old one. With data-version the
// page shows one message, otherwise a list. A hidden tab closes its stream:
// browsers and Postcard limit how many may be open.
function live() {
  const region = document.getElementById("live");
  if (!region || "final" in region.dataset) return;
  const notice = document.getElementById("live-status");
  const one = "version" in region.dataset;
  const pauses = document.getElementById("pauses");
  let paused = pauses.innerHTML;
  let shown = region.innerHTML; // as the server sent it, before localTimes
  let status = one && document.getElementById("status").textContent;
  let source = null;
  let done = false; // no further updates
  let refreshing = false;
  let again = false; // refresh once more afterwards

  function say(text, bad) {
    notice.className = bad ? "notice bad" : "sr";
    notice.textContent = text;
  }

  async function refresh() {
    if (refreshing) { again = true; return; }
    refreshing = true;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      const text = await response.text();
      const page = new DOMParser().parseFromString(text, "text/html");
      const fresh = response.ok && page.getElementById("live");
      if (fresh) {
        if (fresh.innerHTML !== shown) show(fresh);
        showPauses(page.getElementById("pauses"));
      }
      else {
        again = true;
        await checkConnection(); // a logged-out user gets the login page instead
      }
    } catch {
      again = true;
    }
    refreshing = false;
    if (again && !done) setTimeout(() => { again = false; refresh(); }, 1000);
  }

  // selectorFor returns a selector that finds the element again after a refresh,
  // or "".
  function selectorFor(element) {
    if (element.id) return "#" + CSS.escape(element.id);
    const name = element.localName;
    for (const attribute of ["value", "href"]) {
      if (element.hasAttribute(attribute)) return `${name}[${attribute}="${CSS.escape(element.getAttribute(attribute))}"]`;
    }
    return "";
  }

  function show(fresh) {
    shown = fresh.innerHTML;
    const focused = region.contains(document.activeElement) ? selectorFor(document.activeElement) : "";
    region.replaceChildren(...fresh.childNodes);
    localTimes(region);
    if (focused) region.querySelector(focused)?.focus();
    region.toggleAttribute("data-waiting", "waiting" in fresh.dataset);
    if (!one) return;
    region.dataset.version = fresh.dataset.version;
    const newStatus = document.getElementById("status").textContent;
    if (newStatus !== status) say("Status: " + newStatus, false);
    status = newStatus;
    if ("final" in fresh.dataset) { done = true; close(); }
  }

  function showPauses(fresh) {
    if (fresh.innerHTML === paused) return;
    paused = fresh.innerHTML;
    pauses.replaceChildren(...fresh.childNodes);
    localTimes(pauses);
  }

  function close() {
    source?.close();
    source = null;
  }

  function open() {
    if (source || done || document.hidden) return;
    source = new EventSource(region.dataset.stream);
    source.onopen = () => {
      if (notice.className !== "sr") say("", false);
      if (!one) refresh();
    };
    source.addEventListener("message", (event) => { if (event.lastEventId !== region.dataset.version) refresh(); });
    source.addEventListener("changed", refresh);
    source.onerror = checkConnection;
  }

  // checkConnection finds out why the stream failed. It also runs whenever the
  // server ends a stream after a few minutes; the browser then reconnects by
  // itself.
  async function checkConnection() {
    const closed = source?.readyState === EventSource.CLOSED;
    const me = await fetch(document.body.dataset.session, { cache: "no-store" }).catch(() => null);
    if (me?.status === 401) {
      close();
      done = true;
      say("Your session has ended. Reload this page to log in again.", true);
      return;
    }
    if (!me?.ok) say("Postcard cannot be reached. This page keeps trying to reconnect.", true);
    if (!closed) return;
    close();
    setTimeout(open, 2000);
  }

  // No event announces a new queue position or a pause.
  setInterval(() => { if (source && "waiting" in region.dataset) refresh(); }, 15000);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}

counters();
pictures();
links();
timeZones();
live(); // before localTimes, because it compares with what the server sent
localTimes(document);
document.getElementById("summary")?.focus();
