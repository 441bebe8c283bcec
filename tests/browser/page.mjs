// The time that Chromium takes for a page of 300 assets, from one server after the other:
// `node tests/browser/page.mjs SANDSERVE [ROUNDS]`. Run by hand, on a machine that does nothing else. It takes what it
// finds of nginx and Python.

import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { chromium, serve } from "./running.mjs";

/** Assets of each kind: styles, scripts, pictures. */
const EACH = 100;
/** How long a load may take, in milliseconds. */
const TIMEOUT = 60_000;

const [program, rounds = "9"] = process.argv.slice(2);
if (!program) {
  console.error("usage: node page.mjs SANDSERVE [ROUNDS]");
  process.exit(1);
}
const scratch = mkdtempSync(join(tmpdir(), "page-"));
const site = join(scratch, "site");
const started = [];

/** Writes a page that loads 300 files of 0.5 to 7 KB. */
function fill() {
  mkdirSync(site);
  // The workers of nginx have another user where it is started by root.
  chmodSync(scratch, 0o755);
  const numbers = [...Array(EACH).keys()];
  const size = (number) => 500 + ((number * 631) % 6500);
  for (const number of numbers) {
    const padding = "x".repeat(size(number));
    writeFileSync(join(site, `${number}.css`), `/*${padding}*/ .c${number} { color: red }\n`);
    writeFileSync(join(site, `${number}.js`), `/*${padding}*/ window.loaded = (window.loaded ?? 0) + 1;\n`);
    const picture = `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><!--${padding}--></svg>\n`;
    writeFileSync(join(site, `${number}.svg`), picture);
  }
  const each = (tag) => numbers.map(tag).join("\n");
  writeFileSync(
    join(site, "index.html"),
    `<!DOCTYPE html><title>page</title>
${each((number) => `<link rel="stylesheet" href="${number}.css">`)}
${each((number) => `<script src="${number}.js" defer></script>`)}
${each((number) => `<img src="${number}.svg" alt="">`)}
`,
  );
}

/** Starts the Sandserve that is measured, with `options`. Returns its address. */
async function sandserve(...options) {
  const { server, url } = serve(program, ["-q", "-b", "127.0.0.1", "-d", site, ...options, "0"]);
  started.push(server);
  return url;
}

/** Returns a port that is free. */
function freePort() {
  return new Promise((found) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });
}

/** Returns a promise that holds when `port` takes connections, and fails when `server` ends before. */
async function listening(server, port) {
  const ended = new Promise((_, failed) => {
    server.on("error", failed);
    server.on("exit", () => failed(new Error("it has ended")));
  });
  const tried = () =>
    new Promise((done) => {
      const socket = connect(port, "127.0.0.1");
      socket.on("connect", () => done(socket.destroy() && true));
      socket.on("error", () => setTimeout(done, 20, false));
    });
  const taken = async () => {
    while (!(await tried()));
  };
  await Promise.race([taken(), ended]);
}

/** Starts another server on a port that is free. Returns its address. */
async function other(program, options) {
  const port = await freePort();
  const server = spawn(program, options(port), { stdio: "ignore" });
  started.push(server);
  await listening(server, port);
  return `http://127.0.0.1:${port}/`;
}

function nginx() {
  const conf = join(scratch, "nginx.conf");
  return other("nginx", (port) => {
    const text = `daemon off; worker_processes 2; pid ${scratch}/nginx.pid; error_log ${scratch}/error.log;
events { worker_connections 1024; }
http { include /etc/nginx/mime.types; access_log off; sendfile on; tcp_nopush on;
  server { listen 127.0.0.1:${port}; root ${site}; } }
`;
    writeFileSync(conf, text);
    return ["-e", join(scratch, "error.log"), "-c", conf];
  });
}

const python = () =>
  other("python3.13", (port) => ["-m", "http.server", "-b", "127.0.0.1", "-d", site, String(port)]);

/** Returns the time that a load of `url` takes in a browser of its own that has nothing of it, in milliseconds. */
async function load(url) {
  const args = ["--no-sandbox", "--disable-gpu"];
  const browser = await puppeteer.launch({ executablePath: chromium(), headless: true, args });
  try {
    const page = await browser.newPage();
    await page.goto(url, { waitUntil: "load", timeout: TIMEOUT });
    const [time, loaded, failed] = await page.evaluate(() => [
      performance.getEntriesByType("navigation")[0].loadEventEnd || performance.now(),
      window.loaded,
      [...document.images].filter((image) => image.naturalWidth === 0).length,
    ]);
    if (loaded !== EACH || failed > 0) throw new Error(`${url}: ${loaded} scripts, ${failed} pictures missing`);
    return time;
  } finally {
    await browser.close();
  }
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

try {
  fill();
  const servers = {};
  for (const [name, start] of Object.entries({
    sandserve: () => sandserve(),
    "sandserve, HTTP/1.1": () => sandserve("-p", "HTTP/1.1"),
    nginx,
    "Python 3.13": python,
  })) {
    try {
      servers[name] = { url: await start(), times: [] };
    } catch (error) {
      console.error(`${name}: ${error.message}`);
    }
  }
  for (let round = 0; round < Number(rounds); round++) {
    const inTurn = Object.values(servers);
    for (const server of round % 2 ? inTurn.toReversed() : inTurn) server.times.push(await load(server.url));
  }
  console.log("| server | median ms | fastest | slowest |\n| --- | --- | --- | --- |");
  for (const [name, { times }] of Object.entries(servers)) {
    const figures = [median(times), Math.min(...times), Math.max(...times)].map(Math.round);
    console.log(`| ${name} | ${figures.join(" | ")} |`);
  }
} finally {
  for (const server of started) server.kill();
  rmSync(scratch, { recursive: true, force: true });
}
