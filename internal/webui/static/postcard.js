"use strict";

// Everything here makes a page nicer that works without it.

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
      count.classList.toggle("over", left < 0);
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
    hint.textContent = "The picture cannot be shown here. Is the link open to everybody?";
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

// live follows one message, or all: the server tells when something has
// happened, and the new rendering comes from the page itself. While nobody looks
// at the page it asks for nothing, and keeps no connection that others need.
function live() {
  const region = document.getElementById("live");
  if (!region || "final" in region.dataset) return;
  const words = document.getElementById("live-status");
  const one = "version" in region.dataset;
  const pauses = document.getElementById("pauses");
  let paused = pauses.innerHTML;
  let shown = region.innerHTML; // as the server sent it
  let status = one && document.getElementById("status").textContent;
  let source = null;
  let over = false;
  let renewing = false;
  let again = false;

  function say(text, bad) {
    words.className = bad ? "notice bad" : "sr";
    words.textContent = text;
  }

  async function renew() {
    if (renewing) { again = true; return; }
    renewing = true;
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
        await failed(); // who has been logged out gets another page
      }
    } catch {
      again = true;
    }
    renewing = false;
    if (again && !over) setTimeout(() => { again = false; renew(); }, 1000);
  }

  // place finds an element again after the region was renewed.
  function place(element) {
    if (element.id) return "#" + CSS.escape(element.id);
    const name = element.localName;
    for (const attribute of ["value", "href"]) {
      if (element.hasAttribute(attribute)) return `${name}[${attribute}="${CSS.escape(element.getAttribute(attribute))}"]`;
    }
    return "";
  }

  function show(fresh) {
    shown = fresh.innerHTML;
    const focused = region.contains(document.activeElement) ? place(document.activeElement) : "";
    region.replaceChildren(...fresh.childNodes);
    localTimes(region);
    if (focused) region.querySelector(focused)?.focus();
    region.toggleAttribute("data-waiting", "waiting" in fresh.dataset);
    if (!one) return;
    region.dataset.version = fresh.dataset.version;
    const fresher = document.getElementById("status").textContent;
    if (fresher !== status) say("Status: " + fresher, false);
    status = fresher;
    if ("final" in fresh.dataset) { over = true; close(); }
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
    if (source || over || document.hidden) return;
    source = new EventSource(region.dataset.stream);
    source.onopen = () => {
      if (words.className !== "sr") say("", false);
      if (!one) renew();
    };
    source.addEventListener("message", (event) => { if (event.lastEventId !== region.dataset.version) renew(); });
    source.addEventListener("news", renew);
    source.onerror = failed;
  }

  // failed is called also each time a stream ends after its few minutes; the
  // browser then opens the next by itself.
  async function failed() {
    const ended = source?.readyState === EventSource.CLOSED;
    const who = await fetch("/api/me", { cache: "no-store" }).catch(() => null);
    if (who?.status === 401) {
      close();
      over = true;
      say("You have been logged out. Reload the page to go on.", true);
      return;
    }
    if (!who?.ok) say("Postcard cannot be reached at present. This page keeps trying.", true);
    if (!ended) return;
    close();
    setTimeout(open, 2000);
  }

  // Of others that leave the line, and of pauses, nobody tells.
  setInterval(() => { if (source && "waiting" in region.dataset) renew(); }, 15000);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}

counters();
previews();
live(); // before times are rewritten: it compares with what the server sends
localTimes(document);
document.getElementById("summary")?.focus();
