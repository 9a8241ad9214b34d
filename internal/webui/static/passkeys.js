"use strict";

// A form with data-passkey submits the answer of a passkey to what the path in data-options
// asks. Browsers without passkeys do not see it.

async function ask(form) {
  const response = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  const options = await response.json();
  if (!response.ok) throw new Error(options.error);
  const credential = form.dataset.passkey === "create"
    ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options.publicKey) })
    : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options.publicKey) });
  return JSON.stringify(credential.toJSON());
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) break;
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const error = form.querySelector(".error");
    error.textContent = "";
    try {
      form.elements.credential.value = await ask(form);
      form.submit();
    } catch (e) {
      error.textContent = e.name === "NotAllowedError" ? "The browser did not get a passkey. Try again." : e.message;
    }
  });
}
