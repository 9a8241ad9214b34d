"use strict";

// Every page works without this script, which only improves it.

function localTimes(root) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
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

function previews() {
  const pictures = document.getElementById("pictures");
  if (!pictures) return;
  const watch = (input) => {
    const image = document.createElement("img");
    image.className = "preview";
    image.alt = "";
    image.referrerPolicy = "no-referrer";
    image.hidden = true;
    const hint = document.createElement("p");
    hint.className = "hint";
    hint.hidden = true;
    hint.textContent = "The picture cannot be loaded. Check that anyone can open the link.";
    input.after(image, hint);
    image.addEventListener("load", () => { image.hidden = false; hint.hidden = true; });
    image.addEventListener("error", () => { image.hidden = true; hint.hidden = false; });
    const show = () => {
      image.hidden = hint.hidden = true;
      if (/^https?:\/\/[^/]+\.[^/]+/.test(input.value)) image.src = input.value;
    };
    input.addEventListener("change", show);
    show();
  };
  const inputs = () => pictures.querySelectorAll("input[name=mediaUrl]");
  inputs().forEach(watch);

  const more = document.createElement("button");
  more.type = "button";
  more.className = "quiet";
  more.textContent = "Add another picture";
  more.addEventListener("click", () => {
    const number = inputs().length;
    const field = pictures.querySelector(".picture:last-of-type").cloneNode(true);
    field.querySelectorAll("img, p").forEach((e) => e.remove());
    const input = field.querySelector("input");
    input.id = "media-" + number;
    input.value = "";
    input.removeAttribute("aria-invalid");
    const label = field.querySelector("label");
    label.htmlFor = input.id;
    label.firstChild.textContent = "Picture " + (number + 1) + " ";
    pictures.insertBefore(field, more);
    watch(input);
    input.focus();
    more.hidden = number + 1 >= Number(pictures.dataset.max);
  });
  pictures.append(more);
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
previews();
live(); // before localTimes, because it compares with what the server sent
localTimes(document);
document.getElementById("summary")?.focus();
