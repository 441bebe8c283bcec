// A server and a browser to look at it with, as the scripts of this directory start them.

import { execFileSync, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Returns the path of the first Chromium on the PATH, by any of its names. */
export function chromium() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    for (const directory of process.env.PATH.split(delimiter)) {
      const path = join(directory, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not there.
      }
    }
  }
  throw new Error("no Chromium on the PATH");
}

/** Starts `program` with `options`. Returns the process, and a promise of the address in its banner. */
export function serve(program, options) {
  const server = spawn(resolve(program), options, { stdio: ["ignore", "pipe", "ignore"] });
  const url = new Promise((found, failed) => {
    server.on("error", failed);
    server.on("exit", (status) => failed(new Error(`the server has exited: ${status}`)));
    let banner = "";
    server.stdout.on("data", (text) => {
      banner += text;
      const url = banner.match(/\((http:[^)]*)\)/);
      if (url) found(url[1]);
    });
  });
  return { server, url };
}

/** Builds the example handler `name`, where the tests in Rust have theirs. Returns the path of the component. */
export function example(name) {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const target = join(root, "target", "examples");
  const options = ["build", "--quiet", "--release", "--package", "sandserve", "--example", name];
  const stdio = ["ignore", "inherit", "inherit"];
  execFileSync("cargo", [...options, "--target", "wasm32-wasip2", "--target-dir", target], { cwd: root, stdio });
  return join(target, "wasm32-wasip2", "release", "examples", `${name}.wasm`);
}
