// Serves a component of wasi:http with Node, Bun or Deno: `node serve.mjs COMPONENT DIRECTORY [NAME=VALUE]...`, on PORT,
// which the system chooses if it is not set. DIRECTORY is `-` for a component that needs none, such as a bundle.
//
// The shim lets one request at a time into a process, and waits for a client that has left. So each request goes to a
// process that has no other, and a process whose client leaves is replaced.
import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { fileURLToPath, pathToFileURL } from "node:url";

const PROCESSES = 4;

if (process.send) {
  process.on("disconnect", () => process.exit());
  const { cli, filesystem } = await import("@bytecodealliance/preview2-shim");
  const { HTTPServer } = await import("@bytecodealliance/preview2-shim/http");
  const [module, directory, ...variables] = process.argv.slice(2);
  filesystem._setPreopens(directory === "-" ? {} : { "/": directory });
  cli._setEnv(Object.fromEntries(variables.map((variable) => variable.split(/=(.*)/s, 2))));
  const server = new HTTPServer((await import(module)).incomingHandler);
  server.listen(0, "127.0.0.1");
  // The other process may have gone before anybody listened to that.
  if (!process.connected) process.exit();
  process.send(server.address().port, (error) => error && process.exit());
} else {
  const { transpile, writeFiles } = await import("@bytecodealliance/jco-transpile");
  const [component, ...rest] = process.argv.slice(2);
  const digest = createHash("sha256").update(await readFile(component)).digest("hex");
  // Beneath node_modules, so that the module finds the shim.
  const outDir = fileURLToPath(new URL(`node_modules/.components/${digest}`, import.meta.url));
  await writeFiles((await transpile(component, { outDir, name: "component" })).files);
  const module = pathToFileURL(`${outDir}/component.js`).href;

  const idle = [];
  const waiting = [];
  const release = (entry) => (waiting.length ? waiting.shift()(entry) : idle.push(entry));
  const acquire = () => (idle.length ? Promise.resolve(idle.shift()) : new Promise((take) => waiting.push(take)));
  const start = () =>
    new Promise((started) => {
      const child = fork(fileURLToPath(import.meta.url), [module, ...rest]);
      const failed = () => process.exit(1);
      child.once("exit", failed);
      child.once("message", (port) => {
        child.off("exit", failed);
        child.once("exit", () => start().then(release));
        started({ child, port });
      });
    });
  for (const entry of await Promise.all(Array.from({ length: PROCESSES }, start))) release(entry);

  const server = http.createServer(async (request, response) => {
    const entry = await acquire();
    if (response.destroyed) return release(entry);
    let whole = false;
    const { method, url: path, rawHeaders: headers } = request;
    const asked = http.request({ port: entry.port, host: "127.0.0.1", method, path, headers, agent: false });
    asked.once("response", (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.once("end", () => (whole = true)).pipe(response);
    });
    asked.once("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    request.pipe(asked);
    response.once("close", () => (whole ? release(entry) : entry.child.kill("SIGKILL")));
  });
  server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
    console.log(`Serving HTTP on http://127.0.0.1:${server.address().port}/`);
  });
}
