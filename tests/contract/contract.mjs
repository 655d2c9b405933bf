// SPDX-License-Identifier: Apache-2.0
// usage: node contract.mjs DIRECTORY CONTRACT.json AGENTD DEVCP
// Three parts: is anything noticed at all; does the control plane keep the contract; does the agent.

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { agent } from './agent.mjs';
import { byHand } from './byhand.mjs';
import { controls } from './controls.mjs';
import { finish, ok, stopAll } from './lib.mjs';

const [dir, document, agentd, devcp] = process.argv.slice(2);

// Prism looks for the paths as they are written, without a server's own part in front.
function withPrefix(prefix) {
    const text = JSON.parse(readFileSync(document));
    text.paths = Object.fromEntries(Object.entries(text.paths).map(([where, item]) => [prefix + where, item]));
    const file = path.join(dir, 'proxied.json');
    writeFileSync(file, JSON.stringify(text));
    return file;
}

function sameErrorCodes(header) {
    const ours = [...readFileSync(header, 'utf8').matchAll(/^ +X\([A-Z0-9_]+, "([^"]+)"/gm)].map((m) => m[1]);
    const theirs = JSON.parse(readFileSync(document)).components.schemas.ErrorCode.enum;
    ok(ours.length > 0 && ours.join() === theirs.join(), 'the contract and base/fault.h have the same error codes',
        ours.filter((c) => !theirs.includes(c)), theirs.filter((c) => !ours.includes(c)));
}

for (const signal of ['SIGINT', 'SIGTERM'])
    process.on(signal, () => stopAll().then(() => process.exit(1)));
try {
    const proxied = withPrefix('/api/v1');
    sameErrorCodes(path.join(import.meta.dirname, '../../base/fault.h'));
    await controls(dir, proxied);
    await byHand(dir, proxied, document, devcp);
    await agent(dir, proxied, document, devcp, agentd);
} catch (error) {
    ok(false, 'the run came to its end', error.stack.split('\n'));
}
await stopAll();
process.exit(finish());
