// The pictures of the README: `node tests/browser/screenshot.mjs SANDSERVE` writes `docs/images/listing-light.png`
// and `listing-dark.png`, from a listing of a running server. It ends by itself.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import { chromium, serve } from "./running.mjs";

const IMAGES = join(dirname(fileURLToPath(import.meta.url)), "../../docs/images");
/** Twice the pixels of the page, for screens that have them. */
const VIEWPORT = { width: 800, height: 10, deviceScaleFactor: 2 };
/** The time of a step, in milliseconds. */
const TIMEOUT = 30_000;

const ENTRIES = [
  ["assets/", "2026-11-20T09:12:00Z"],
  ["photos/", "2026-08-02T17:40:00Z"],
  ["CHANGELOG.md", "2026-11-21T08:30:00Z", 4_107],
  ["backup.tar.gz", "2026-10-31T23:00:00Z", 1_288_490_188],
  ["index.js", "2026-11-19T14:05:00Z", 18_432],
  ["report.pdf", "2026-09-13T12:26:00Z", 2_621_440],
  ["talk.webm", "2026-05-17T10:00:00Z", 94_371_840],
];

/** Fills `site`. Large files are holes, and take no space. */
function fill(site) {
  for (const [name, time, size] of ENTRIES) {
    const path = join(site, name);
    if (size === undefined) {
      mkdirSync(path);
    } else {
      writeFileSync(path, "");
      truncateSync(path, size);
    }
    utimesSync(path, new Date(time), new Date(time));
  }
  symlinkSync("photos", join(site, "latest"));
}

const [program] = process.argv.slice(2);
if (!program) {
  console.error("usage: node screenshot.mjs SANDSERVE");
  process.exit(1);
}
const scratch = mkdtempSync(join(tmpdir(), "screenshot-"));
const site = join(scratch, "site");
mkdirSync(site);
fill(site);
mkdirSync(IMAGES, { recursive: true });
const { server, url } = serve(program, ["--bind", "127.0.0.1", "--directory", site, "0"]);
let browser;
try {
  const address = await url;
  server.removeAllListeners("exit");
  browser = await puppeteer.launch({
    executablePath: chromium(),
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    userDataDir: join(scratch, "profile"),
    timeout: TIMEOUT,
  });
  for (const scheme of ["light", "dark"]) {
    const page = await browser.newPage();
    page.setDefaultTimeout(TIMEOUT);
    await page.setViewport(VIEWPORT);
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.goto(address);
    const path = join(IMAGES, `listing-${scheme}.png`);
    await page.screenshot({ path, fullPage: true });
    await page.close();
    console.log(path);
  }
} finally {
  server.kill();
  await browser?.close();
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
}
