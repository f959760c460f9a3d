// Makes calls with the npm client of Pieces OS, which it takes as it is from NODE_PATH. The address is the
// first argument. Each line on standard input is a call, and is answered by a line on standard output when
// the client's promise settles; calls run side by side. The first line of output names all calls for
// backups that the client has.
"use strict";
const readline = require("node:readline");
const client = require("@pieces.app/pieces-os-client");

const configuration = new client.Configuration({ basePath: process.argv[2] });
const backups = { BackupApi: new client.BackupApi(configuration), BackupsApi: new client.BackupsApi(configuration) };
const apis = { ...backups, ConnectorApi: new client.ConnectorApi(configuration), WellKnownApi: new client.WellKnownApi(configuration) };

// The client's own functions make its models of what stands in a call as JSON.
const models = {
  asset: client.AssetFromJSON,
  assets: client.AssetsFromJSON,
  backup2: client.BackupFromJSON,
  seededBackup: client.SeededBackupFromJSON,
  seededConnectorConnection: client.SeededConnectorConnectionFromJSON,
};

function print(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

async function call({ id, api, method, params }) {
  const given = {};
  for (const [name, value] of Object.entries(params ?? {})) {
    given[name] = models[name] ? models[name](value) : value;
  }
  try {
    const value = await apis[api][method](given);
    print({ id, ok: true, value: value ?? null });
  } catch (error) {
    const response = error.response;
    print({ id, ok: false, status: response?.status ?? 0, error: response ? await response.text() : String(error.stack) });
  }
}

const calls = [];
for (const [api, object] of Object.entries(backups)) {
  for (const method of Object.getOwnPropertyNames(Object.getPrototypeOf(object))) {
    if (method !== "constructor" && !method.endsWith("Raw")) {
      calls.push(`${api}.${method}`);
    }
  }
}
print({ calls: calls.sort() });
// At the end of the input nobody waits for an answer any more: a call that is still under way must not keep the process.
readline.createInterface({ input: process.stdin }).on("line", (line) => call(JSON.parse(line))).on("close", () => process.exit(0));
