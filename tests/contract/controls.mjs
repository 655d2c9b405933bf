// SPDX-License-Identifier: Apache-2.0
// Negative controls. Prism passes in silence what it could not compile, so a run without violations says something only after each
// operation's request, answer and credentials have been seen to be judged.

import http from 'node:http';

import { ok, startPrism, stop } from './lib.mjs';
import { idOf, newHost, operations, request, send } from './requests.mjs';

// Answers from the table: inside the contract, or outside of it.
function startStub() {
    const stub = { answers: 'good' };
    const server = http.createServer((q, answer) => {
        const o = operations[idOf(q.method, q.url)];
        q.resume().on('end', () => {
            if (!o) return answer.writeHead(404, { 'Content-Type': 'application/json' }).end('{"error":"no such thing"}');
            answer.writeHead(stub.answers === 'good' ? (o.goodStatus ?? 200) : 200, { 'Content-Type': 'application/json', ETag: '"1"' });
            answer.end(JSON.stringify(o[stub.answers]));
        });
    });
    return new Promise((done) => server.listen(0, '127.0.0.1', () => done(Object.assign(stub, { server, port: server.address().port }))));
}

export async function controls(dir, document) {
    const stub = await startStub();
    const prism = await startPrism('prism-controls', dir, document, stub.port);
    const host = newHost({ id: crypto.randomUUID(), secret: 'secret', token: 'token' });

    for (const [id, o] of Object.entries(operations)) {
        stub.answers = 'good';
        let a = await send(prism.port, '/api/v1', request(id, host));
        ok(!a.violations && a.status === (o.goodStatus ?? 200), `control: ${id}, all inside the contract, passes`, a.violations ?? a.text);
        for (const [what, leave] of Object.entries(o.out)) {
            const q = request(id, host);
            leave(q);
            a = await send(prism.port, '/api/v1', q);
            ok(a.violations?.includes('"request"'), `control: ${id} with ${what} is reported`, `status ${a.status}, ${a.violations}`);
        }
        stub.answers = 'bad';
        a = await send(prism.port, '/api/v1', request(id, host));
        ok(a.violations?.includes('"response"'), `control: ${id} with a bad answer is reported`, `status ${a.status}, ${a.violations}`);
    }
    const a = await send(prism.port, '/api/v1', { method: 'GET', path: '/hosts', headers: {} });
    ok(a.violations?.includes('"request"'), 'control: a call the contract does not know is reported', `status ${a.status}`);

    await stop(prism.child);
    stub.server.close();
    stub.server.closeAllConnections();
}
