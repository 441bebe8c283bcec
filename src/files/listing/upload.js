{
  const form = document.querySelector("form[method=post]");
  const [button, progress, output] = ["button", "progress", "output"].map((name) => form.querySelector(name));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = new XMLHttpRequest();
    const ended = (text) => {
      button.disabled = false;
      progress.hidden = true;
      output.value = text;
    };
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      progress.value = loaded / total;
      output.value = `${Math.floor((100 * loaded) / total)} %`;
    });
    request.addEventListener("error", () => ended("Not uploaded: the connection was lost"));
    request.addEventListener("load", () => {
      if (request.status < 300) location.reload();
      else ended(`Not uploaded: ${request.statusText || request.status}`);
    });
    request.open("POST", location.pathname);
    request.send(new FormData(form));
    button.disabled = true;
    progress.value = 0;
    progress.hidden = false;
    output.value = "0 %";
  });
}
