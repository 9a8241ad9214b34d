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

// live follows a message: it asks the cheap status endpoint, and when something
// has happened it takes the new rendering from the page itself.
function live() {
  const region = document.getElementById("live");
  if (!region || "final" in region.dataset) return;
  const words = document.getElementById("live-status");
  let etag = 'W/"' + region.dataset.version + '"';
  let wait = 700;

  async function renew() {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) return false;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
    if (!fresh) return false;
    const focus = document.activeElement && region.contains(document.activeElement) ? document.activeElement.id : "";
    region.replaceChildren(...fresh.childNodes);
    localTimes(region);
    if (focus) document.getElementById(focus)?.focus();
    words.textContent = "Status: " + document.getElementById("status").textContent;
    return "final" in fresh.dataset;
  }

  async function look() {
    if (document.hidden) return schedule();
    try {
      const response = await fetch(region.dataset.poll, { headers: { "If-None-Match": etag }, cache: "no-store" });
      if (response.status === 401) {
        words.className = "notice bad";
        words.textContent = "You have been logged out. Reload the page to go on.";
        return;
      }
      if (response.ok) {
        etag = response.headers.get("ETag") || etag;
        wait = 700;
        if (await renew()) return;
      } else {
        wait = Math.min(wait * 1.3, 5000);
      }
      if (words.className !== "sr") { words.className = "sr"; words.textContent = ""; }
    } catch {
      words.className = "notice bad";
      words.textContent = "Postcard cannot be reached at present. This page keeps trying.";
      wait = Math.min(wait * 1.5, 5000);
    }
    schedule();
  }

  const schedule = () => setTimeout(look, wait);
  schedule();
}

localTimes(document);
counters();
previews();
live();
document.getElementById("summary")?.focus();
