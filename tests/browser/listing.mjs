// What a person meets in a browser: `node tests/browser/listing.mjs SANDSERVE [SCREENSHOTS]`. It ends by
// itself, with status 1 if something is not as it should be. The example handlers are those that `cargo test` has
// built, or are built now.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { chromium, example, serve } from "./running.mjs";
import { webm } from "./webm.mjs";

const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };
const SCHEMES = ["light", "dark"];
/** How long the whole of it may take, and each wait in it, in milliseconds. */
const DEADLINE = 240_000;
const TIMEOUT = 30_000;
const SECONDS = 60;

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [program, shots = mkdtempSync(join(tmpdir(), "screenshots-"))] = process.argv.slice(2);
if (!program) fail("usage: node listing.mjs SANDSERVE [SCREENSHOTS]");
const scratch = mkdtempSync(join(tmpdir(), "browser-"));
const site = join(scratch, "site");
const servers = [];
let browser;

function fail(reason) {
  console.error(reason);
  process.exit(1);
}

/** Starts a server on a free port, with `more` options; the address that its banner names. */
function start(...more) {
  const options = ["--bind", "127.0.0.1", "--directory", site, "--protocol", "HTTP/1.1", ...more, "0"];
  const { server, url } = serve(program, options);
  servers.push(server);
  return url;
}

function fill() {
  mkdirSync(join(site, "documents", "empty"), { recursive: true });
  for (const [name, size] of [
    ["Zebra.txt", 3],
    ["apple.txt", 200],
    ["Grüße & more.txt", 70_000],
    ["a rather long name that does not fit on one line of a phone, or any other.tar.gz", 5_000_000],
  ]) {
    writeFileSync(join(site, name), "x".repeat(size));
  }
}

/** A page that notes what its policy refuses. */
async function open(url, { viewport = WIDE, scheme = "light" } = {}) {
  const page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT);
  page.refused = [];
  page.on("console", (message) => {
    if (/Content Security Policy|Uncaught/.test(message.text())) page.refused.push(message.text());
  });
  page.on("pageerror", (error) => page.refused.push(String(error)));
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(url);
  return page;
}

async function close(page) {
  assert.deepEqual(page.refused, []);
  await page.close();
}

const names = (page) =>
  page.$$eval("tbody tr:not([hidden]) a", (links) => links.map((link) => link.textContent));

const shoot = (page, name) => page.screenshot({ path: join(shots, `${name}.png`) });

/** Has axe-core look at the page. */
async function inspect(page, what) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  assert.ok(passes.length > 10, `axe-core has hardly looked at ${what}`);
  const shown = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(shown, [], what);
}

const tests = {
  async "a listing is sorted by its heads"({ url }) {
    const page = await open(url);
    const sorted = [];
    for (const head of ["Size", "Size", "Name", "Name"]) {
      const button = await page.$(`::-p-xpath(//th//button[normalize-space()="${head}"])`);
      await Promise.all([page.waitForNavigation(), button.click()]);
      sorted.push((await names(page))[0].slice(0, 6));
      const order = await page.$eval("th[aria-sort]", (head) => head.getAttribute("aria-sort"));
      sorted.push(order);
    }
    const wanted = ["a rath", "descending", "docume", "ascending", "a rath", "ascending", "Zebra.", "descending"];
    assert.deepEqual(sorted, wanted);
    await close(page);
  },

  async "a listing is filtered as one types"({ url }) {
    const page = await open(url);
    await page.type("input[type=search]", "gruß");
    assert.deepEqual(await names(page), []);
    await page.$eval("input[type=search]", (input) => input.select());
    await page.type("input[type=search]", "gru");
    assert.deepEqual(await names(page), ["Grüße & more.txt"]);
    assert.equal(await page.$eval("[role=search] output", (output) => output.value), "1 of 5");
    await shoot(page, "filtered");
    await inspect(page, "a filtered listing");
    await close(page);
  },

  async "listings are accessible in both schemes, at a desk and on a phone"({ url, uploads }) {
    for (const scheme of SCHEMES) {
      for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
        for (const target of [
          url,
          `${url}?sort=size&order=desc`,
          `${url}documents/empty/`,
          uploads,
          `${uploads}documents/empty/`,
        ]) {
          const what = `${target} ${scheme} ${size}`;
          const page = await open(target, { viewport, scheme });
          await inspect(page, what);
          const overflow = await page.evaluate(
            () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
          );
          if (target === url) await shoot(page, `listing-${scheme}-${size}`);
          if (target === uploads) await shoot(page, `form-${scheme}-${size}`);
          assert.equal(overflow, 0, `${what} is wider than the screen`);
          await close(page);
        }
      }
    }
  },

  async "a listing works without JavaScript"({ uploads: url }) {
    const page = await browser.newPage();
    await page.setJavaScriptEnabled(false);
    await page.goto(url);
    assert.equal(await page.$eval("[role=search]", (search) => search.hidden), true);
    const file = join(scratch, "plain.txt");
    writeFileSync(file, "from a form\n");
    await (await page.$("input[type=file]")).uploadFile(file);
    await Promise.all([page.waitForNavigation(), page.click("[method=post] button")]);
    assert.equal(page.url(), url);
    assert.ok((await names(page)).includes("plain.txt"));
    assert.equal(readFileSync(join(site, "plain.txt"), "utf8"), "from a form\n");
    await page.close();
  },

  async "an upload shows how far it is"({ uploads: url }) {
    const content = Buffer.alloc(2_000_000, "upload");
    const file = join(scratch, "upload.bin");
    writeFileSync(file, content);
    for (const [scheme, viewport] of [["light", WIDE], ["dark", PHONE]]) {
      rmSync(join(site, "documents", "upload.bin"), { force: true });
      const page = await open(`${url}documents/`, { scheme, viewport });
      await page.emulateNetworkConditions({ upload: 500_000, download: 5_000_000, latency: 0 });
      await (await page.$("input[type=file]")).uploadFile(file);
      await page.click("[method=post] button");
      await page.waitForFunction(() => {
        const { value, hidden } = document.querySelector("progress");
        const shown = document.querySelector("[method=post] output").value;
        return !hidden && value > 0.1 && value < 0.9 && shown === `${Math.floor(100 * value)} %`;
      });
      await shoot(page, `upload-${scheme}`);
      await inspect(page, "an upload that is under way");
      await page.waitForFunction(() => document.querySelector("tbody").textContent.includes("upload.bin"));
      assert.ok(readFileSync(join(site, "documents", "upload.bin")).equals(content));

      // There it is now, and a second one is refused.
      await page.emulateNetworkConditions(null);
      await (await page.$("input[type=file]")).uploadFile(file);
      await page.click("[method=post] button");
      const output = "[method=post] output";
      await page.waitForFunction((output) => document.querySelector(output).value.startsWith("Not"), {}, output);
      const shown = await page.$eval(output, (output) => output.value);
      assert.equal(shown, "Not uploaded: upload.bin exists already");
      await shoot(page, `refused-${scheme}`);
      await inspect(page, "an upload that was refused");
      await close(page);
    }
  },

  async "pages of other sites cannot upload"({ uploads: url }) {
    const page = await browser.newPage();
    for (const enctype of ["multipart/form-data", "text/plain"]) {
      await page.goto("about:blank");
      await page.setContent(`<form method="post" enctype="${enctype}" action="${url}"><input name="a"></form>`);
      const [response] = await Promise.all([
        page.waitForNavigation(),
        page.$eval("form", (form) => form.submit()),
      ]);
      assert.equal(response.status(), 403, enctype);
    }
    await page.close();
  },

  async "a handler talks to a WebSocket"({ websocket: url }) {
    const page = await open(url);
    await page.waitForFunction(() => document.querySelector("form").onsubmit);
    await page.type("input[name=text]", "Grüße");
    await page.click("button");
    await page.waitForFunction(() => document.querySelector("pre").textContent === "Grüße\n");
    const talk = await page.evaluate(async (url) => {
      const socket = new WebSocket(url.replace(/^http/, "ws"));
      socket.binaryType = "arraybuffer";
      const next = (event) => new Promise((done) => socket.addEventListener(event, done, { once: true }));
      await next("open");
      const echoes = [];
      const large = new Uint8Array(5_000_000).map((_, at) => at % 251);
      for (const sent of ["", "text", large, "x".repeat(70_000)]) {
        socket.send(sent);
        const { data } = await next("message");
        const same = typeof sent === "string" ? data === sent : new Uint8Array(data).every((byte, at) => byte === sent[at]);
        echoes.push([data.length ?? data.byteLength, same]);
      }
      socket.close(4321, "enough");
      const { code, wasClean } = await next("close");
      return { echoes, code, wasClean };
    }, url);
    assert.deepEqual(talk, {
      echoes: [[0, true], [4, true], [5_000_000, true], [70_000, true]],
      code: 4321,
      wasClean: true,
    });
    await close(page);
  },

  async "a video is sought in by ranges"({ uploads: url }) {
    const page = await open(`${url}documents/empty/`);
    // Each picture has its number as the shade of its middle, and noise around, which takes space.
    const pictures = await page.evaluate((count) => {
      const canvas = new OffscreenCanvas(640, 480);
      const context = canvas.getContext("2d", { alpha: false });
      const read = (blob) => new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result.split(",")[1]);
        reader.readAsDataURL(blob);
      });
      const picture = async (_, second) => {
        const noise = context.createImageData(640, 480);
        noise.data.forEach((_, at) => (noise.data[at] = at % 4 === 3 ? 255 : 256 * Math.random()));
        context.putImageData(noise, 0, 0);
        context.fillStyle = `rgb(${4 * second} ${4 * second} ${4 * second})`;
        context.fillRect(160, 120, 320, 240);
        return read(await canvas.convertToBlob({ type: "image/webp", quality: 0.9 }));
      };
      return Promise.all(Array.from({ length: count }, picture));
    }, SECONDS);
    const video = webm(pictures.map((picture) => Buffer.from(picture, "base64")), 640, 480);
    writeFileSync(join(site, "documents", "video.webm"), video);
    writeFileSync(
      join(site, "documents", "player.html"),
      '<!DOCTYPE html><html lang="en"><title>Player</title><video src="video.webm" preload="metadata" muted></video>',
    );

    const ranges = [];
    page.on("response", (response) => {
      if (response.url().endsWith("video.webm")) {
        ranges.push([response.status(), response.request().headers().range]);
      }
    });
    await page.goto(`${url}documents/player.html`);
    await page.waitForFunction(() => document.querySelector("video").readyState > 0);
    assert.equal(await page.$eval("video", (video) => video.duration), SECONDS);
    for (const second of [50, 20, 58]) {
      const shade = await page.$eval(
        "video",
        async (video, second) => {
          const sought = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
          video.currentTime = second + 0.5;
          await sought;
          const canvas = new OffscreenCanvas(640, 480);
          const context = canvas.getContext("2d");
          context.drawImage(video, 0, 0);
          return context.getImageData(320, 240, 1, 1).data[0];
        },
        second,
      );
      assert.ok(Math.abs(shade - 4 * second) <= 6, `second ${second} has shade ${shade}`);
    }
    await shoot(page, "video");
    // What the browser has kept of an earlier part, it asks about.
    assert.ok(ranges.every(([status]) => [206, 304].includes(status)), `${ranges}`);
    const sent = ranges.filter(([status]) => status === 206);
    const starts = sent.map(([, range]) => Number(range.match(/bytes=(\d+)-/)[1]));
    assert.ok(
      starts.some((start) => start > video.length / 2),
      `of ${video.length} bytes only ${ranges} were asked for`,
    );
    await close(page);
  },
};

async function main() {
  fill();
  const urls = {
    url: await start(),
    uploads: await start("--upload"),
    websocket: await start("--handler", example("websocket")),
  };
  browser = await puppeteer.launch({
    executablePath: chromium(),
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    userDataDir: join(scratch, "profile"),
    timeout: TIMEOUT,
  });
  let failures = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test(urls);
      console.log(`ok      ${name}`);
    } catch (error) {
      failures += 1;
      console.log(`FAILED  ${name}\n${error.stack}`);
    }
  }
  console.log(`screenshots are in ${shots}`);
  return failures;
}

mkdirSync(shots, { recursive: true });
const deadline = setTimeout(() => {
  console.error(`not done after ${DEADLINE / 1000} seconds`);
  process.exitCode = 1;
  end();
}, DEADLINE);

async function end() {
  clearTimeout(deadline);
  for (const server of servers) {
    server.removeAllListeners("exit");
    server.kill();
  }
  await Promise.race([browser?.close(), new Promise((done) => setTimeout(done, 5000))]);
  browser?.process()?.kill("SIGKILL");
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
  process.exit();
}

try {
  process.exitCode = (await main()) === 0 ? 0 : 1;
} catch (error) {
  console.error(error.stack);
  process.exitCode = 1;
}
await end();
