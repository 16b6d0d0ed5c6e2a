// Uploading a file with its progress: the bytes go as they are, no form around them.
for (const form of document.querySelectorAll("form[data-upload]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, form.querySelector("input[type=file]").files[0]);
  });
}

function send(form, file) {
  const [progress, wrong, button] = [form.querySelector(".progress"), form.querySelector(".wrong"), form.querySelector("button")];
  const [bar, text] = [progress.querySelector("progress"), progress.querySelector("span")];
  const fail = (said) => {
    wrong.textContent = said;
    wrong.hidden = false;
    button.disabled = false;
  };
  const request = new XMLHttpRequest();
  request.open("POST", form.dataset.upload);
  request.setRequestHeader("X-Form-Token", form.dataset.token);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = loaded / (total || 1);
    text.textContent = `${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
  });
  request.addEventListener("load", () => {
    if (request.status < 400) return location.reload();
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    fail(page.querySelector("main p")?.textContent ?? "That did not work.");
  });
  request.addEventListener("error", () => fail("The upload was cut off. Nothing of it is kept: try again."));
  progress.hidden = false;
  wrong.hidden = true;
  button.disabled = true;
  request.send(file);
}
