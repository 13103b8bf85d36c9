// Drives openai-node by the steps of steps.json: `node drive.mjs FOLDER URL KEY`, where FOLDER has node_modules/openai.
// Tells, as JSON, its version, the methods called, those it does not have, and what did not hold; like drive.py.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, url, key] = process.argv.slice(2);
const load = createRequire(`${folder}/package.json`);
const { OpenAI, NotFoundError, toFile } = load("openai");
const steps = JSON.parse(readFileSync(new URL("steps.json", import.meta.url)));
// What openai-node calls otherwise than its Python sister.
const NAMES = { admin_api_keys: "adminAPIKeys", api_keys: "apiKeys" };
const told = { version: load("openai/version").VERSION, called: [], missing: [], wrong: [] };
const saved = {};

const camel = (name) => NAMES[name] ?? name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const at = (value, path) => (path ? path.split(".") : []).reduce((found, step) => found?.[step], value);

async function filled(value) {
  if (typeof value === "string" && value.startsWith("$")) {
    const [name, ...path] = value.slice(1).split(".");
    return at(saved[name], path.join("."));
  }
  if (Array.isArray(value)) return Promise.all(value.map(filled));
  if (value?.["@file"]) return toFile(Buffer.from(value["@file"][1]), value["@file"][0]);
  if (value && typeof value === "object") {
    const pairs = Object.entries(value).map(async ([name, each]) => [name, await filled(each)]);
    return Object.fromEntries(await Promise.all(pairs));
  }
  return value;
}

// The last name in a path stands by itself before the parameters, the others among them.
async function given(step) {
  const path = Object.entries(await filled(step.path ?? {}));
  const last = path.pop();
  const params = { ...Object.fromEntries(path), ...(await filled(step.params ?? {})) };
  const first = last ? [last[1]] : [];
  return Object.keys(params).length ? [...first, params] : first;
}

async function answered(kind, call) {
  switch (kind) {
    case "not_found":
      try {
        await call();
      } catch (error) {
        if (error instanceof NotFoundError) return { status: error.status };
        throw error;
      }
      throw new Error("it is still there");
    case "stream":
    case "page": {
      const items = [];
      for await (const item of await call()) items.push(item);
      return kind === "page" ? items : { first: items[0], last: items.at(-1) };
    }
    case "bytes":
      return { text: await (await call()).text() };
    case "text":
      return { text: await call() };
    default:
      return await call();
  }
}

const empty = (value) =>
  value === undefined || value === null || value === "" || (typeof value === "object" && !Object.keys(value).length);

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, adminAPIKey: key, maxRetries: 0 });
for (const step of steps) {
  const parts = step.call.split(".").map(camel);
  const name = parts.pop();
  const resource = parts.reduce((found, part) => found?.[part], client);
  if (typeof resource?.[name] !== "function") {
    told.missing.push(step.call);
    continue;
  }
  try {
    const args = await given(step);
    const answer = await answered(step.kind, () => resource[name](...args));
    told.called.push(step.call);
    saved[step.save ?? ""] = answer;
    for (const [path, pattern] of Object.entries(step.holds)) {
      const [found, wanted] = [at(answer, path), await filled(pattern)];
      if (wanted === "*" ? empty(found) : found !== wanted)
        told.wrong.push(`${step.call}: ${path} is ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`);
    }
  } catch (error) {
    told.wrong.push(`${step.call}: ${error}`);
  }
}
console.log(JSON.stringify(told));
