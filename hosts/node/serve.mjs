// Serves a component of wasi:http with Node, Bun or Deno: `node serve.mjs COMPONENT DIRECTORY [NAME=VALUE]...`, on PORT,
// which the system chooses if it is not set. DIRECTORY is `-` for a component that needs none, such as a bundle.
//
// The shim lets one request at a time into a process, and waits for a client that has left. So each request goes to a
// process that has no other, and a process whose client leaves is replaced. An answer is taken as fast as it comes, so that
// no process waits for a client that reads slowly.
import { fork } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { open, readFile, unlink } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

const PROCESSES = 4;
// Bytes of an answer that are kept in memory for a client.
const AHEAD = 1 << 20;
// Milliseconds in which a client has to move something.
const PATIENCE = 120_000;

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

  // Takes all of an answer. Returns what the client is too slow for, in a file without a name.
  const take = async (answer, response) => {
    let file;
    let ahead = 0;
    try {
      for await (const bytes of answer) {
        if (file) {
          await file.appendFile(bytes);
        } else {
          ahead += bytes.length;
          response.write(bytes, () => (ahead -= bytes.length));
          if (ahead > AHEAD) file = await openNameless();
        }
      }
    } catch (error) {
      await file?.close();
      throw error;
    }
    return file;
  };
  const openNameless = async () => {
    const path = join(tmpdir(), `sandserve-${randomUUID()}`);
    const file = await open(path, "wx+", 0o600);
    await unlink(path);
    return file;
  };

  const server = http.createServer(async (request, response) => {
    const entry = await acquire();
    if (response.destroyed) return release(entry);
    const abandon = () => entry.child.kill("SIGKILL");
    response.once("close", abandon);
    const { method, url: path, rawHeaders: headers } = request;
    const asked = http.request({ port: entry.port, host: "127.0.0.1", method, path, headers, agent: false });
    request.pipe(asked);
    try {
      const [answer] = await once(asked, "response");
      // Errors that come when the answer has been taken are nobody's.
      for (const stream of [answer, response]) stream.on("error", () => {});
      asked.on("error", (error) => answer.destroy(error));
      response.writeHead(answer.statusCode, answer.rawHeaders);
      const rest = await take(answer, response);
      response.off("close", abandon);
      if (!entry.child.killed) release(entry);
      await (rest ? pipeline(rest.createReadStream({ start: 0 }), response) : response.end());
    } catch (error) {
      if (!response.destroyed) console.error(`an answer was cut off: ${error.message}`);
      if (response.headersSent) return response.destroy();
      response.writeHead(502).end();
    }
  });
  server.setTimeout(PATIENCE);
  server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
    console.log(`Serving HTTP on http://127.0.0.1:${server.address().port}/`);
  });
}
